"""`trackerd serve` starts the page that its configuration asks for and takes it along, however it ends."""

import signal
import socket
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from helpers.pages import TRACKERD
from helpers.preloaded import Forked, command
from helpers.tracking import PATIENCE_S, wait_until
from tracker.cli.trackerd import trackerd
from tracker.cli.web import with_page
from tracker.client import Client
from tracker.errors import ConfigError, Timeout


def configured(folder: Path, **web: object) -> Path:
    path = folder / "trackerd.yaml"
    sections = {
        "control": {"endpoint": f"ipc://{folder}/control"},
        "publish": {"endpoint": f"ipc://{folder}/publish"},
        "web": web,
    }
    path.write_text(yaml.safe_dump(sections))
    return path


@pytest.mark.usefixtures("preloaded")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_page_lives_and_dies_with_the_daemon(tmp_path: Path, number: signal.Signals) -> None:
    path = configured(tmp_path, endpoint="127.0.0.1:0")
    arguments = ("tracker.cli.trackerd", "serve", "-c", str(path))
    with Forked(command, *arguments, log=tmp_path / "log", cwd=tmp_path) as process:
        wait_until(lambda: answers(f"ipc://{tmp_path}/control"))
        daemon = psutil.Process(process.pid)
        wait_until(daemon.children)
        (page,) = daemon.children()
        assert "web" in page.cmdline()
        loaded = {part for mapped in page.memory_maps() for part in Path(mapped.path).parts}
        process.send_signal(number)
        process.wait(PATIENCE_S)
        psutil.wait_procs([page], timeout=PATIENCE_S)
        assert not page.is_running()
    assert "zmq" in loaded or "pyzmq.libs" in loaded  # so a package that is loaded is seen
    assert not loaded & {"torch", "av", "av.libs", "cv2", "opencv_python_headless.libs", "PIL", "pillow.libs"}


def answers(control: str) -> bool:
    with Client(control, timeout_s=0.5) as client:
        try:
            client.info()
        except Timeout:
            return False
    return True


def test_a_page_that_is_not_safe_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = configured(tmp_path, endpoint="0.0.0.0:5580")
    for verb in ("serve", "check"):
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            trackerd.main([verb, "-c", str(path)], standalone_mode=False)


def test_a_port_that_another_has_is_an_error_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.cli.web.STOP_S", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = configured(tmp_path, endpoint=f"127.0.0.1:{taken.getsockname()[1]}")
        with (
            pytest.raises(
                ConfigError, match=r"web\.endpoint: cannot listen on 127\.0\.0\.1:\d+: Address already in use$"
            ),
            with_page(path),
        ):
            pass


def test_a_port_that_is_about_to_be_free_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of the page of a daemon that was killed a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        path = configured(tmp_path, endpoint=f"127.0.0.1:{taken.getsockname()[1]}")
        monkeypatch.setattr("tracker.cli.web.sleep", lambda _: taken.close())
        with with_page(path):
            assert psutil.Process().children()


def test_a_page_that_ends_by_itself_is_told_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = configured(tmp_path, endpoint="127.0.0.1:0")
    with with_page(path):
        (page,) = (child for child in psutil.Process().children() if "web" in child.cmdline())
        page.kill()
        wait_until(lambda: "the page's process has ended with status -9" in caplog.text)
    caplog.clear()
    with with_page(path):
        pass
    assert not caplog.text  # it was told to


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [TRACKERD, "web", "--listen", "192.0.2.1:5580", "--token-file", str(tmp_path / "none")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"trackerd: web.token_file: {tmp_path}/none cannot be read")
