"""URLs: what is shown of them, what is put into them, and which are cameras."""

import pytest

from tracker.config import StreamConfig
from tracker.streams.allowlist import pattern_problem
from tracker.streams.picture import Misconfigured
from tracker.streams.urls import for_ffmpeg, is_live, problems, redacted, with_credentials


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://cam/live", "rtsp://cam/live"),
        ("rtsp://user:secret@cam:554/live", "rtsp://cam:554/live"),
        ("rtsp://user@cam/live", "rtsp://cam/live"),
        ("http://cam/v?user=a&pwd=secret", "http://cam/v?…"),
        ("http://user:secret@cam/v?pwd=secret#x", "http://cam/v?…"),
        ("http://cam/v?\nsecret", "http://cam/v?…"),
        ("rtsp://cam/user=admin_password=secret_channel=1_stream=0.sdp", "rtsp://cam/user=…"),
        ("rtsp://cam/user=admin&password=secret&channel=1", "rtsp://cam/user=…"),
        ("http://cam/token=secret/live", "http://cam/token=…/live"),
        # Passwords that somebody forgot to escape.
        ("rtsp://user:sec@ret@cam/live", "rtsp://…@cam/live"),
        ("rtsp://user:sec/ret@cam/live", "rtsp://…@cam/live"),
        ("rtsp://user:1234/secret@cam/live", "rtsp://…@cam/live"),
        ("rtsp://user:sec?ret@cam/live", "rtsp://…@cam/live"),
        ("rtsp://user:sec#ret@cam/live", "rtsp://…@cam/live"),
        ("/srv/videos/a@b?.mp4", "/srv/videos/a@b?.mp4"),
        ("testsrc2=size=640x360", "testsrc2=size=640x360"),
    ],
)
def test_what_is_shown(url, shown):
    assert redacted(url) == shown


@pytest.mark.parametrize(
    ("url", "username", "password", "expected"),
    [
        ("rtsp://cam/live", None, None, "rtsp://cam/live"),
        ("rtsp://cam:8554/live?x=1", "viewer", "plain", "rtsp://viewer:plain@cam:8554/live?x=1"),
        ("rtsp://cam/live", "a@b", "p:/?#%@", "rtsp://a%40b:p%3A%2F%3F%23%25%40@cam/live"),
        ("rtsp://cam/live", "viewer", "pässwörd", "rtsp://viewer:p%C3%A4ssw%C3%B6rd@cam/live"),
        ("rtsp://viewer@cam/live", None, "plain", "rtsp://viewer:plain@cam/live"),
        ("rtsp://old:older@cam/live", "viewer", "plain", "rtsp://viewer:plain@cam/live"),
        ("rtsp://[::1]:554/live", "viewer", "plain", "rtsp://viewer:plain@[::1]:554/live"),
    ],
)
def test_credentials_are_escaped_into_the_url(url, username, password, expected, monkeypatch, tmp_path):
    settings = {}
    if username is not None:
        monkeypatch.setenv("CAM_USER", username)
        settings["username_env"] = "CAM_USER"
    if password is not None:
        (tmp_path / "password").write_text(password + "\r\n", encoding="utf-8")
        settings["password_file"] = str(tmp_path / "password")
    assert with_credentials(StreamConfig(url=url, **settings)) == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"password_env": "NOT_SET_ANYWHERE"}, "password_env: the environment has no variable NOT_SET_ANYWHERE"),
        ({"username_file": "/nowhere/name"}, "username_file: /nowhere/name: No such file or directory"),
        ({"username_env": "A", "username_file": "b"}, "username_env and username_file are both set"),
        ({"url": "/srv/a.mp4", "username_env": "HOME"}, "need a URL with a host"),
        ({"url": "rtsp://[::1/x", "username_env": "HOME"}, "is no URL"),
    ],
)
def test_missing_credentials_are_said_by_key(settings, words):
    with pytest.raises(Misconfigured, match=words):
        with_credentials(StreamConfig(**{"url": "rtsp://cam/live"} | settings))


def test_bare_names_are_systemd_credentials(tmp_path, monkeypatch):
    (tmp_path / "cam1").write_text("plain")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert with_credentials(StreamConfig(url="rtsp://u@cam/x", password_file="cam1")) == "rtsp://u:plain@cam/x"


@pytest.mark.parametrize(
    ("url", "format_", "live"),
    [
        ("rtsp://cam/live", None, True),
        ("RTSP://cam/live", None, True),
        ("http://cam/video", None, True),
        ("udp://239.0.0.1:1234", None, True),
        ("/dev/video0", None, True),
        ("0", "v4l2", True),
        ("/srv/a.mp4", None, False),
        ("file:///srv/a.mp4", None, False),
        ("a.mp4", None, False),
        ("testsrc2", "lavfi", False),
    ],
)
def test_cameras_and_files(url, format_, live):
    assert is_live(StreamConfig(url=url, format=format_)) is live


@pytest.mark.parametrize(
    ("url", "opened"),
    [
        ("RTSP://Cam/Live", "rtsp://Cam/Live"),
        ("file:///srv/A.mp4", "/srv/A.mp4"),
        ("Movie:x", "Movie:x"),
    ],
)
def test_ffmpeg_is_given_the_schemes_that_it_knows(url, opened):
    assert for_ffmpeg(url) == opened


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, []),
        ({"pace": "all"}, ["pace: all is for files"]),
        ({"url": "rtsp://cam:live/"}, ["url: its port is no number"]),
        ({"url": "rtsp://viewer:se/same@cam/live"}, ["url: its port is no number"]),
        ({"url": "rtsp://viewer:sesame@[::1]:8554/live"}, []),
        ({"url": "udp://@:1234"}, []),
        ({"url": "a.mp4", "pace": "all"}, []),
        ({"url": "a.mp4", "password_env": "P"}, ["url: a user name and password need a URL"]),
        (
            {"username_env": "A", "username_file": "a", "password_env": "B", "password_file": "b"},
            ["username_env: is set beside", "password_env: is set beside"],
        ),
    ],
)
def test_problems_that_show_without_opening(settings, words):
    found = problems(StreamConfig(**{"url": "rtsp://cam/live"} | settings))
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("rtsp://*.cams.local/**", None),
        ("/srv/videos/**", None),
        ("/dev/video*", None),
        ("cams.local/live", "absolute path, or a URL"),
        ("srv/videos/*", "absolute path, or a URL"),
        ("rtsp:cam", "a URL with ://"),
        ("rtsp://cam/**/x/**", "only stand at the end"),
    ],
)
def test_patterns_that_could_never_match(pattern, words):
    problem = pattern_problem(pattern)
    assert (problem is None) if words is None else (problem is not None and words in problem)
