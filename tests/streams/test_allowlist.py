"""What clients may open: a table of patterns and URLs, and above all of what must not slip through."""

import pytest

from tracker.config import ControlConfig, StreamConfig
from tracker.streams.allowlist import allowed, refusal

CAMS = ["rtsp://*.cams.local/live/*", "rtsp://10.0.0.7:8554/**", "http://vms.local:*/cam*/mjpeg"]


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://a.cams.local/live/1",
        "RTSP://A.CAMS.LOCAL/live/1",
        "rtsp://a.b.cams.local/live/1?token=x/y",
        "rtsp://user:pass@a.cams.local/live/1",
        "rtsp://a.cams.local:554/live/1",
        "rtsp://a.cams.local./live/1",
        "rtsp://10.0.0.7:8554/any/thing/deep",
        "rtsp://10.0.0.7:8554/",
        "rtsp://10.0.0.7:8554",
        "http://vms.local/cam7/mjpeg",
        "http://vms.local:8080/cam7/mjpeg",
    ],
)
def test_matches(url):
    assert allowed(url, CAMS)


@pytest.mark.parametrize(
    "url",
    [
        "rtsps://a.cams.local/live/1",  # another scheme
        "http://a.cams.local/live/1",
        "rtsp://cams.local/live/1",
        "rtsp://a.cams.local.evil.com/live/1",
        "rtsp://evil.com/live/1",
        "rtsp://a.cams.local@evil.com/live/1",
        "rtsp://evil.com#@a.cams.local/live/1",
        "rtsp://evil.com?@a.cams.local/live/1",
        "rtsp://evil.com\\@a.cams.local/live/1",
        "rtsp://evil.com/@a.cams.local/live/1",
        "rtsp://a.cams.local/live/1/2",  # * stays within its part
        "rtsp://a.cams.local/live",
        "rtsp://a.cams.local/livestock/1",
        "rtsp://a.cams.local/live/../admin",
        "rtsp://a.cams.local/live/%2e%2e/admin",
        "rtsp://a.cams.local/live/%2E./admin",
        "rtsp://a.cams.local/live/..",
        "rtsp://a.cams.local/live/x%2fy",  # an encoded slash is a slash
        "rtsp://a.cams.local/live/x%0a",
        "rtsp://a.cams.local:8554/live/1",  # another port
        "rtsp://10.0.0.7/x",
        "rtsp://10.0.0.70:8554/x",
        "rtsp://10.0.0.7:8554@evil.com/x",
        "rtsp://10.0.0.7:port/x",
        "rtsp://10.0.0.7:99999/x",
        "rtsp://[::1/x",
        "rtsp:///live/1",
        "rtsp:a.cams.local/live/1",
        "cache:rtsp://a.cams.local/live/1",
        "concat:rtsp://a.cams.local/live/1|/etc/passwd",
        "http://vms.local/cam7/x/mjpeg",
        "http://vms.local:8080@evil.com/cam7/mjpeg",
        "rtsp://a.cams.local/live/1 ",
        "\trtsp://a.cams.local/live/1",
        "rtsp://a.cams.local/live/1\n",
        "rt\nsp://a.cams.local/live/1",
        "/etc/passwd",
        "",
    ],
)
def test_does_not_match(url):
    assert not allowed(url, CAMS)


def test_a_home_that_is_nobodys_matches_nothing():
    assert not allowed("~nobody-of-that-name/x", ["/srv/**"])


def test_nothing_by_default():
    for url in ("rtsp://127.0.0.1/x", "/dev/video0", "http://a/b"):
        assert not allowed(url, [])


@pytest.fixture
def tree(tmp_path, monkeypatch):
    (tmp_path / "videos" / "deep").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    for name in ("videos/a.mp4", "videos/deep/b.mp4", "secret/c.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "videos" / "link.mp4").symlink_to(tmp_path / "secret" / "c.mp4")
    (tmp_path / "videos" / "inside.mp4").symlink_to(tmp_path / "videos" / "a.mp4")
    monkeypatch.chdir(tmp_path / "videos")
    return tmp_path.resolve()


@pytest.mark.parametrize(
    ("url", "pattern", "expected"),
    [
        ("{}/videos/a.mp4", "{}/videos/*", True),
        ("file://{}/videos/a.mp4", "{}/videos/*", True),
        ("file:{}/videos/a.mp4", "{}/videos/*", True),
        ("{}/videos/a.mp4", "file://{}/videos/*.mp4", True),
        ("{}/videos/../videos/a.mp4", "{}/videos/*", True),
        ("{}/videos/inside.mp4", "{}/videos/*", True),
        ("{}/videos/deep/b.mp4", "{}/videos/**", True),
        ("{}/videos/deep/b.mp4", "{}/videos/*", False),
        ("{}/videos/../secret/c.mp4", "{}/videos/**", False),
        ("file://{}/videos/../secret/c.mp4", "{}/videos/**", False),
        ("{}/videos/link.mp4", "{}/videos/**", False),
        ("a.mp4", "{}/videos/*", False),  # relative to whatever folder the daemon is in
        ("./a.mp4", "{}/videos/*", False),
        ("movie={}/videos/a.mp4", "{}/videos/**", False),
        ("concat:{}/videos/a.mp4", "{}/videos/**", False),
        ("subfile,,start,0,end,9,,:{}/videos/a.mp4", "{}/videos/**", False),
        ("{}/videos/a.mp4", "http://{}/videos/**", False),
        ("http://host{}/videos/a.mp4", "{}/videos/**", False),
        ("/dev/video0", "/dev/video*", True),
        ("/dev/sda", "/dev/video*", False),
    ],
)
def test_local_paths(tree, url, pattern, expected):
    assert allowed(url.format(tree), [pattern.format(tree)]) is expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, None),
        ({"format": "mpegts", "options": {"probesize": "1000"}, "fps": 5.0}, None),
        ({"format": "lavfi"}, "format: 'lavfi' is for the configuration file"),
        ({"format": "concat"}, "format: 'concat' is for the configuration file"),
        ({"options": {"http_proxy": "http://evil"}}, "options: 'http_proxy' is for the configuration file"),
        ({"options": {"protocol_whitelist": "file"}}, "options: 'protocol_whitelist'"),
        ({"password_file": "/etc/shadow"}, "password_file: is for the configuration file"),
        ({"username_env": "HOME"}, "username_env: is for the configuration file"),
        ({"url": "rtsp://10.0.0.7:8554/x?channel=1"}, None),
        ({"url": "rtsp://elsewhere/x"}, "url: no pattern of control.allow_sources matches"),
    ],
)
def test_refusals_say_why(settings, words):
    config = StreamConfig(**{"url": "rtsp://10.0.0.7:8554/x"} | settings)
    reason = refusal(config, ControlConfig(allow_sources=CAMS))
    assert (reason is None) if words is None else (reason is not None and words in reason)


@pytest.mark.parametrize(
    ("url", "option"),
    [
        ("tcp://10.0.0.7:7597?listen=1", "listen"),
        ("udp://10.0.0.7:7597?fifo_size=2000000000", "fifo_size"),
        ("srt://10.0.0.7:7597?latency=200&mode=listener", "mode"),
        ("srt://10.0.0.7:7597?streamid=door&passphrase=x&latency=200", None),
        ("rtsp://10.0.0.7:554/x?channel=1", None),
        ("http://10.0.0.7/x?listen=1", None),  # the server's business
    ],
)
def test_options_in_a_url_are_options(url, option):
    scheme = url.partition(":")[0]
    reason = refusal(StreamConfig(url=url), ControlConfig(allow_sources=[f"{scheme}://10.0.0.7:*/**"]))
    assert reason == (option and f"url: the option {option!r} is for the configuration file")
