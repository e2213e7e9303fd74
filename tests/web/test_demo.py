"""`tools/demo --watch`: the pond on the page, until Ctrl-C."""

import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from helpers.leaks import ROOT
from helpers.tracking import wait_until

START_S = 200


def serves(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return b"/static/app.js" in response.read()
    except urllib.error.URLError:
        return False


def test_the_demo_opens_the_pond_on_the_page(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        page = f"127.0.0.1:{bound.getsockname()[1]}"
    command = [sys.executable, "-m", "pond", "--watch", "--out", str(tmp_path / "demo"), "--page", page]
    with subprocess.Popen(command, cwd=ROOT / "tools", stdout=subprocess.PIPE, text=True) as demo:
        wait_until(lambda: serves(f"http://{page}/s/pond"), START_S)
        assert demo.stdout is not None
        for line in demo.stdout:
            if "open http" in line:
                assert f"http://{page}/s/pond" in line
                break
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0
