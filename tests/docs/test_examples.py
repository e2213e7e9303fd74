"""The example subscribers, run against a real control and publish socket that behave as the daemon's do."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_daemon import FakeDaemon, tracks
from helpers.waiting import in_background
from tracker.protocol import records

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SQUARE = records.ObjectRecord(
    object=7, state="visible", box=(1, 2, 3, 4), area=4, outline=[[[1, 2, 3, 2, 3, 4, 1, 4]]], label="cat"
)
LOST = records.ObjectRecord(object=8, state="lost")


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    with in_background(lambda done: _publish(daemon, done)):
        yield daemon
    daemon.stop()


def _publish(daemon: FakeDaemon, done: threading.Event) -> None:
    frame = 0
    while not done.wait(0.01):
        for stream in ("cam1", "cam10"):
            daemon.publisher.publish(f"tracks/{stream}/", tracks(frame, stream, [SQUARE, LOST]))
        frame += 1


def _run(daemon: FakeDaemon, *command: str) -> list[str]:
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    done = subprocess.run(
        command, cwd=EXAMPLES, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("cam1 #") for line in lines)
    first = int(lines[0].removeprefix("cam1 #").split()[0])
    assert [int(line.removeprefix("cam1 #").split()[0]) for line in lines] == list(range(first, first + 5))
    return [line.split("  ", 1)[1] for line in lines]


def test_the_python_subscriber(daemon: FakeDaemon) -> None:
    lines = _run(daemon, sys.executable, "subscribe.py", "cam1", "5")
    assert set(lines) == {"7 cat visible at (1, 2, 3, 4), 4 pixels  8 lost nowhere"}


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")
@pytest.mark.skipif(
    not (EXAMPLES / "node_modules" / "zeromq").exists(), reason="npm install was not run in docs/examples"
)
def test_the_node_subscriber(daemon: FakeDaemon) -> None:
    lines = _run(daemon, "node", "subscribe.mjs", "cam1", "5")
    assert set(lines) == {"7 cat visible at 1,2,3,4  8 lost nowhere"}
