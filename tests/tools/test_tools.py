"""The tools that people and CI call, and the check that every test goes through."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.leaks import ROOT, files, no_leaks, open_things


def leak_thread(clean_up: ExitStack) -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    clean_up.callback(thread.join)
    clean_up.callback(release.set)


def leak_socket(clean_up: ExitStack) -> None:
    clean_up.enter_context(socket.socket())


def leak_process(clean_up: ExitStack) -> None:
    process = subprocess.Popen(["sleep", "60"])
    clean_up.callback(process.wait)
    clean_up.callback(process.kill)


def leak_file(clean_up: ExitStack) -> None:
    path = ROOT / "left-by-a-test.png"
    path.touch()
    clean_up.callback(path.unlink)


LEAKS = [
    (leak_thread, open_things, "thread"),
    (leak_socket, open_things, "socket"),
    (leak_process, open_things, "process"),
    (leak_file, files, "file .*png"),
]


@pytest.mark.parametrize(("leak", "things", "named"), LEAKS)
def test_the_leak_check_names_what_a_test_leaves_behind(
    leak: Callable[[ExitStack], None], things: Callable[[], set[str]], named: str
) -> None:
    with (
        ExitStack() as clean_up,
        pytest.raises(pytest.fail.Exception, match=f"left behind: .*{named}"),
        no_leaks(patience_s=0.05, things=things),
    ):
        leak(clean_up)


def test_the_leak_check_waits_for_what_is_just_ending() -> None:
    with no_leaks():
        threading.Timer(0.1, lambda: None).start()


@pytest.mark.parametrize("tool", ["install", "check", "fix", "test", "demo", "bench", "eval", "train"])
def test_each_tool_is_a_shell_script_that_can_be_run(tool: str) -> None:
    path = ROOT / "tools" / tool
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)


def test_installing_again_does_nothing_and_works_from_any_folder(tmp_path: Path) -> None:
    for _ in range(2):
        done = subprocess.run([ROOT / "tools/install"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_install_refuses_an_option_it_does_not_know() -> None:
    done = subprocess.run([ROOT / "tools/install", "--fast"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "usage: tools/install [--test-servers | --test-browser | --systemd" in done.stderr
