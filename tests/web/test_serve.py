"""`trackerd serve` starts the page that its configuration asks for and takes it along, however it ends."""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
import yaml

from helpers.pages import TRACKERD
from helpers.preloaded import Forked, command
from helpers.tracking import PATIENCE_S, wait_until
from tracker.cli.trackerd import trackerd
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


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [TRACKERD, "web", "--listen", "192.0.2.1:5580", "--token-file", str(tmp_path / "none")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"trackerd: web.token_file: {tmp_path}/none cannot be read")
