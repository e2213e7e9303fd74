"""Ctrl-C and SIGHUP while modules load, and in the middle of a command: real processes, stopped at known places."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["demo", "bench", "eval", "train", "faults"]
# `env`, because a shell may have Ctrl-C ignored in what it runs in the background, and all below inherits that.
PYTHON = ["env", "--default-signal=INT", sys.executable]
STUCK = "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep({seconds})\n"


def ended(folder: Path, *command: str) -> tuple[int, str]:
    """The exit status and all that was said, of a process that looks for modules in `folder` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "tools")])}
    done = subprocess.run(
        command, env=environment, timeout=120, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def started_by(tool: str) -> list[str]:
    """The arguments that a tool's script gives to Python."""
    (arguments,) = re.findall(r'python"? (-m .*) "\$@"', (ROOT / "tools" / tool).read_text())
    return arguments.split()


@pytest.mark.parametrize("name", ["trackerd", "trackctl", *TOOLS])
def test_ctrl_c_while_modules_load_ends_the_process_without_a_word(tmp_path: Path, name: str) -> None:
    for loaded in ("click", "cv2", "torch", "psutil"):  # one of them is among the first that any of these loads
        (tmp_path / f"{loaded}.py").write_text(STUCK.format(seconds=60))
    command = started_by(name) if name in TOOLS else [str(Path(sys.executable).with_name(name))]
    assert ended(tmp_path, *PYTHON, *command, "--help") == (-2, "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["serve", "-c", "any.yaml"], 7, id="a daemon that starts has nothing to read again yet"),
        pytest.param(["track", "any.mp4"], -1, id="all else ends with its terminal"),
    ],
)
def test_a_hang_up_while_modules_load(tmp_path: Path, arguments: list[str], status: int) -> None:
    (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGHUP)\nos._exit(7)\n")
    python = ["env", "--default-signal=HUP", str(Path(sys.executable).with_name("trackerd"))]
    assert ended(tmp_path, *python, *arguments) == (status, "")


@pytest.mark.parametrize("program", ["trackerd", "trackctl"])
def test_ctrl_c_in_a_command_ends_it_without_a_word(tmp_path: Path, program: str) -> None:
    interrupted = f"""
import os, signal, time
from tracker.cli import start, {program}

@{program}.{"trackerd" if program == "trackerd" else "main"}.command()
def wait():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

start.{program}()
"""
    assert ended(tmp_path, *PYTHON, "-c", interrupted, "wait") == (130, "")


@pytest.mark.parametrize("program", ["trackerd", "trackctl"])
def test_ctrl_c_while_options_are_read_ends_it_without_a_word(tmp_path: Path, program: str) -> None:
    interrupted = f"""
import os, signal, time
import click
from tracker.cli import start, {program}

def wait(ctx, option, value):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)

group = {program}.{"trackerd" if program == "trackerd" else "main"}
group.params.append(click.Option(["--any"], callback=wait, is_eager=True, expose_value=False))
start.{program}()
"""
    assert ended(tmp_path, *PYTHON, "-c", interrupted, "anything") == (130, "")


def test_ctrl_c_in_a_tool_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("def main():\n    " + STUCK.format(seconds=60).replace("\n", "\n    "))
    assert ended(tmp_path, *PYTHON, "-m", "tracker.cli.start", "waits") == (130, "")


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    loading, running = STUCK.format(seconds=0), "    os.kill(os.getpid(), signal.SIGINT)\n    print('done')\n"
    (tmp_path / "goes_on.py").write_text(f"{loading}def main():\n{running}")
    ignoring = ["env", "--ignore-signal=INT", sys.executable]
    assert ended(tmp_path, *ignoring, "-m", "tracker.cli.start", "goes_on") == (0, "done\n")


@pytest.mark.parametrize(("before", "seen"), [(None, "1"), ("4", "4")], ids=["not set", "set by the user"])
def test_numpy_has_one_thread_beside_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None, seen: str
) -> None:
    """The number is read as numpy is loaded: what stands in its place here says what it would find."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", before)
    saying = "import os\nprint(os.environ.get('OPENBLAS_NUM_THREADS'), flush=True)\nos._exit(0)\n"
    (tmp_path / "numpy.py").write_text(saying)
    trackerd = str(Path(sys.executable).with_name("trackerd"))
    assert ended(tmp_path, *PYTHON, trackerd, "check", "--help") == (0, f"{seen}\n")


def test_where_only_the_client_is_installed_trackerd_says_what_is_missing() -> None:
    only_client = "import sys; sys.modules['sam2'] = None; from tracker.cli.start import trackerd; trackerd()"
    command = [sys.executable, "-c", only_client, "models", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    missing = (
        "trackerd: sam2 is not installed, which the daemon's own commands need: tools/install brings it along\n"
    )
    assert (done.returncode, done.stderr) == (1, missing)
