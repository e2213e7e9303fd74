"""What `trackerd check` finds beyond the shape of a configuration."""

import os
from pathlib import Path

import pytest

from tracker.cli.trackerd import main
from tracker.daemon.checks import check
from tracker.errors import ConfigError

WRONG = [
    ("control: {endpoint: 'tcp://0.0.0.0:5570'}", "control.endpoint"),
    ("control: {allow_sources: ['videos']}", "control.allow_sources: 'videos'"),
    ("model: {name: sam3}", "model.name"),
    ("model: {checkpoint: /nowhere.pt}", "model.checkpoint"),
    ("model: {device: 'cuda:99'}", "model.device"),
    ("persist: {dir: /etc/hostname}", "persist.dir: /etc/hostname is no folder"),
    ("streams: {a: {url: 'rtsp://cam/live', pace: all}}", "streams.a.pace"),
    ("streams: {a: {url: 'rtsp://cam/live', loop: true}}", "streams.a.loop: is for files"),
    ("streams: {a: {url: 'rtsp://u:p@cam:99999/live'}}", "streams.a.url: its port is beyond 65535"),
    ("streams: {a: {url: x.mp4, size: [99999, 99999]}}", "streams.a.size: has 99999x99999 pixels"),
    ("metrics: {endpoint: '127.0.0.1:65536'}", "metrics.endpoint: 127.0.0.1:65536 has a port beyond"),
    ("model: {name: sam2.1_hiera_large}", "model.name: the weights of sam2.1_hiera_large are not here yet"),
    ("streams: {a: {url: 'rtsp://cam/live', password_env: A, password_file: b}}", "streams.a.password_env"),
]


@pytest.mark.parametrize(("text", "key"), WRONG)
def test_it_names_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, key: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where no weights were fetched
    path = tmp_path / "tracker.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        check(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: {key}")


def test_it_finds_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text("\n".join(text for text, _ in (WRONG[0], WRONG[2], WRONG[5])))
    with pytest.raises(ConfigError) as caught:
        check(path)
    assert len(caught.value.problems) == 3


def test_a_right_one_passes(tmp_path: Path) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text("streams: {a: {url: 'rtsp://cam/live'}}")
    assert list(check(path).streams) == ["a"]


SLIPS = [
    ("{url: 127.0.0.1/live}", "url: 127.0.0.1/live: no such file or folder; a camera's address has a scheme"),
    ("{url: '0'}", "url: 0: no such file or folder; a camera of this machine is /dev/video0"),
    ("{url: 'rtps://127.0.0.1/live'}", "url: FFmpeg knows no protocol rtps://"),
    ("{url: clip, format: nosuch}", "format: FFmpeg has no input format 'nosuch'"),
]
LACKING = [
    ("{url: missing.mp4}", "url: missing.mp4: no such file or folder"),
    ("{url: 'rtsp://127.0.0.1/live', password_env: SET_NOWHERE}", "password_env: the environment has no variable"),
    ("{url: 'rtsp://127.0.0.1/live', password_file: /no/where}", "password_file: /no/where: No such file"),
    ("{url: empty}", "url: empty: has no pictures in it"),
    ("{url: twins}", "url: twins/0.jpg and twins/0.png have one name"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with some sources in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip").touch()
    (tmp_path / "twins").mkdir()
    for name in ("0.jpg", "0.png"):
        (tmp_path / "twins" / name).touch()
    return tmp_path


@pytest.mark.parametrize(("stream", "words"), SLIPS)
def test_it_looks_at_sources(here: Path, stream: str, words: str) -> None:
    path = here / "tracker.yaml"
    path.write_text(f"streams: {{a: {stream}}}")
    with pytest.raises(ConfigError) as caught:
        check(path, with_sources=True)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: streams.a.{words}")
    assert list(check(path).streams) == ["a"]  # the daemon starts all the same: other streams may be well


@pytest.mark.parametrize(("stream", "words"), LACKING)
def test_what_is_not_there_is_said_and_is_no_fault_of_the_configuration(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str, words: str
) -> None:
    """An upgrade or a reload for other streams must not wait for it: the daemon serves without, as before."""
    (here / "tracker.yaml").write_text(f"streams: {{a: {stream}}}")
    monkeypatch.setattr("sys.argv", ["trackerd", "check", "-c", "tracker.yaml"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr()
    assert said.err.startswith(f"trackerd: tracker.yaml: streams.a.{words}")
    assert said.out.startswith("tracker.yaml: nothing wrong but what is not there: the daemon starts")


def test_what_is_not_there_is_said_beside_what_is_wrong(here: Path) -> None:
    path = here / "tracker.yaml"
    path.write_text("streams: {a: {url: missing.mp4}, b: {url: 'rtps://127.0.0.1/live'}}")
    with pytest.raises(ConfigError) as caught:
        check(path, with_sources=True)
    assert len(caught.value.problems) == 2


def test_a_slip_hides_nothing_of_the_streams_that_are_right_by_themselves(here: Path) -> None:
    path = here / "tracker.yaml"
    path.write_text(
        "engine: {threads: two}\n"
        "streams: {a: {url: ''}, b: {url: missing.mp4}, c: {url: 'rtsp://cam/live', loop: true}, d: {url: clip}}"
    )
    with pytest.raises(ConfigError) as caught:
        check(path, with_sources=True)
    keys = [problem.removeprefix(f"{path}: ").partition(":")[0] for problem in caught.value.problems]
    assert keys == [
        "engine.threads",
        "streams.a.url",
        "streams.c.loop",
        "streams.b.url",
        "once this is mended, look again",
    ]


@pytest.mark.parametrize("parent", ["/proc", "clip"])
def test_a_state_folder_that_cannot_be_made_is_named(here: Path, parent: str) -> None:
    path = here / "tracker.yaml"
    path.write_text(f"persist: {{dir: {parent}/x}}")
    with pytest.raises(ConfigError, match=f"persist.dir: {parent}/x cannot be made: ") as caught:
        check(path, with_sources=True)
    assert len(caught.value.problems) == 1


def test_a_state_folder_that_can_be_made_is_not_made(here: Path) -> None:
    path = here / "tracker.yaml"
    path.write_text("persist: {dir: state/of/tracker}")
    check(path, with_sources=True)
    assert sorted(entry.name for entry in here.iterdir()) == ["clip", "empty", "tracker.yaml", "twins"]


@pytest.mark.parametrize(
    "stream",
    [
        "{url: 'http://127.0.0.1/film.mp4', loop: true}",
        "{url: 'rtsp://127.0.0.1/live'}",
        "{url: /dev/video99}",
        "{url: clip}",
        "{url: 'testsrc2=size=64x48', format: lavfi}",
        "{url: 'rtsp://127.0.0.1/live', password_file: of-the-service}",
    ],
)
def test_what_may_still_come_is_not_wrong(here: Path, stream: str) -> None:
    path = here / "tracker.yaml"
    path.write_text(f"streams: {{a: {stream}}}")
    assert list(check(path, with_sources=True).streams) == ["a"]


def test_the_command_says_each_fault_on_a_line_of_its_own(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "tracker.yaml").write_text("streams: {a: {url: 'rtps://127.0.0.1/live'}, b: {url: missing.mp4}}")
    monkeypatch.setattr("sys.argv", ["trackerd", "check", "-c", "tracker.yaml"])
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().err.splitlines()
    assert [line.removeprefix("trackerd: ").partition(".url")[0] for line in lines] == [
        "tracker.yaml: streams.a",
        "tracker.yaml: streams.b",
    ]


def test_the_page_is_checked_like_the_rest(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "tracker.yaml").write_text("web: {endpoint: foo}")
    monkeypatch.setattr("sys.argv", ["trackerd", "check", "-c", "tracker.yaml"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().err.startswith("trackerd: tracker.yaml: web.endpoint: 'foo' is not host:port")


FOREIGN = [
    ("tracker.yaml", 0o646, None, "tracker.yaml can be written by everybody; chmod o-w"),
    ("", 0o777, None, "can be written by everybody"),
    ("", 0o1777, None, None),  # as /tmp is: nobody can replace what is another's
    ("tracker.yaml", 0o600, 4242, "tracker.yaml belongs to user 4242"),
    ("", 0o755, 4242, "belongs to user 4242"),
    ("state", 0o707, None, "persist.dir: {}/state can be written by everybody"),
    ("state", 0o700, 4242, "persist.dir: {}/state belongs to user 4242"),
    ("state/state.db", 0o606, None, "persist.dir: {}/state/state.db can be written by everybody"),
    ("state/memories", 0o700, 4242, "persist.dir: {}/state/memories belongs to user 4242"),
    ("tracker.yaml", 0o640, None, None),
]


@pytest.mark.parametrize(("name", "mode", "owner", "says"), FOREIGN)
def test_what_others_can_write_is_not_believed(
    tmp_path: Path, name: str, mode: int, owner: int | None, says: str | None
) -> None:
    folder = tmp_path / "etc"
    (folder / "state" / "memories").mkdir(parents=True, mode=0o700)
    (folder / "state" / "state.db").touch(0o600)
    path = folder / "tracker.yaml"
    path.write_text(f"persist: {{dir: {folder}/state}}")
    (folder / name).chmod(mode)
    if owner is not None:
        if os.geteuid() != 0:
            pytest.skip("giving a file to another user needs root")
        os.chown(folder / name, owner, -1)
    if says is None:
        check(path)
        return
    with pytest.raises(ConfigError) as caught:
        check(path)
    assert any(says.format(folder) in problem for problem in caught.value.problems)


def test_what_a_group_can_write_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text("{}")
    path.chmod(0o664)
    check(path)
    assert "tracker.yaml can be written by its group" in caplog.text
