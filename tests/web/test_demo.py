"""`tools/demo --watch`: a film on the page, until Ctrl-C."""

import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from helpers.leaks import ROOT
from helpers.tracking import wait_until

START_S = 200
# A shell may have Ctrl-C ignored in what it runs in the background.
STARTED = ["env", "--default-signal=INT", sys.executable, "-m", "tracker.cli.start", "pond.__main__"]


def serves(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return b"/static/app.js" in response.read()
    except urllib.error.URLError:
        return False


@contextmanager
def watched(folder: Path) -> Iterator["tuple[subprocess.Popen[str], str]"]:
    """The demo once its page is served, and the page's address."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        page = f"127.0.0.1:{bound.getsockname()[1]}"
    command = [*STARTED, "--real", "--watch", "--out", str(folder / "demo"), "--page", page]
    with subprocess.Popen(
        command, cwd=ROOT / "tools", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        wait_until(lambda: serves(f"http://{page}/s/cars"), START_S)
        yield demo, page


def until_it_is_open(demo: "subprocess.Popen[str]") -> str:
    assert demo.stdout is not None
    return next(line for line in demo.stdout if "open http" in line)


def test_the_demo_shows_its_film_on_the_page(tmp_path: Path) -> None:
    with watched(tmp_path) as (demo, page):
        assert f"http://{page}/s/cars" in until_it_is_open(demo)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0


def test_a_daemon_that_dies_ends_the_demo_with_its_log(tmp_path: Path) -> None:
    with watched(tmp_path) as (demo, _):
        until_it_is_open(demo)
        (daemon,) = (child for child in psutil.Process(demo.pid).children() if "serve" in child.cmdline())
        daemon.kill()
        assert demo.stdout is not None
        said = demo.stdout.read()
        assert demo.wait(30) == 1
        assert "the daemon ended by itself, with status -9" in said
        assert "the daemon's log" in said
