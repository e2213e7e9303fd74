"""Tables in terminals that are too narrow for them."""

import math
import os
import pty
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_daemon import FakeDaemon
from tracker.cli.table import columns_of, fitted
from tracker.protocol.records import BufferRecord, StreamRecord
from tracker.protocol.replies import ObjectEntry, ObjectList, StreamList

BIN = Path(sys.executable).parent
URL = "rtsp://cam-north.example.com:8554/Streaming/Channels/101"
WHY = "no answer within 5 s"
LIVE = StreamRecord(
    stream="cam1",
    url="rtsp://192.168.1.20/live",
    state="live",
    size=(1920, 1080),
    fps=25.0,
    frame=1234567,
    step=123456,
    dropped=123,
    objects=12,
    buffer=BufferRecord(seconds=4.0, bytes=300 << 20),
)
LOST = StreamRecord(stream="gate-north-entry", url=URL, state="connecting", fps=25.0, error=f"{URL}: {WHY}")
OBJECT = ObjectEntry(
    object=7,
    state="visible",
    label="forklift",
    stream="gate-north-entry",
    frame=1234567,
    box=(1024, 512, 1310, 840),
    score=0.93,
    area=81234,
    age=12345,
)


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def on_terminal(columns: int, command: str, *arguments: str) -> list[str]:
    """The lines that a command prints in a terminal of so many columns; none is longer than that."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, columns))
    subprocess.run([BIN / command, *arguments], env=environment, stdout=theirs, check=True)
    os.close(theirs)
    lines = os.read(ours, 1 << 16).decode().splitlines()
    os.close(ours)
    assert max(map(columns_of, lines)) <= columns
    return lines


@pytest.mark.parametrize("columns", [50, 80, 100])
def test_a_stream_is_one_line_and_its_error_stands_below(daemon: FakeDaemon, columns: int) -> None:
    daemon.answers["streams.list"] = StreamList(streams=[LIVE, LOST])
    heading, live, lost, why = on_terminal(columns, "trackctl", "--control", daemon.control.endpoint, "streams")
    assert heading.split()[:2] == ["stream", "state"]
    assert live.startswith("cam1")
    assert "connecting" in lost
    assert why.strip() == WHY


@pytest.mark.parametrize("columns", [50, 80, 100])
def test_an_object_is_one_line(daemon: FakeDaemon, columns: int) -> None:
    daemon.answers["objects.list"] = ObjectList(objects=[OBJECT])
    heading, row = on_terminal(columns, "trackctl", "--control", daemon.control.endpoint, "ls")
    assert {"stream", "object", "state", "label"} <= set(heading.split())
    assert "forklift" in row


def test_a_pipe_gets_everything() -> None:
    seen = on_terminal(60, "trackerd", "models", "list")
    piped = subprocess.run([BIN / "trackerd", "models", "list"], capture_output=True, text=True, check=True).stdout
    assert len(piped.splitlines()) < len(seen)
    assert any(line.endswith(".pt") and "not fetched  https://" in line for line in piped.splitlines())


def test_what_matters_least_goes_first() -> None:
    headings, rows = ("stream", "step", "url"), [("cam1", "12", "x" * 30)]
    lines = list(fitted(headings, rows, 36, ["step"], False))
    assert lines == ["stream  url", f"cam1    {'x' * 27}…"]
    whole, _ = fitted(headings, rows, math.inf, ["step"], False)
    assert whole.split() == list(headings)


def test_an_empty_column_goes_before_anything_is_cut() -> None:
    lines = list(fitted(("stream", "fps", "error"), [("a" * 20, "", "")], 25, [], True))
    assert lines == ["stream", "a" * 20]


def test_a_remark_is_wrapped_beside_its_row_where_there_is_room() -> None:
    lines = list(fitted(("", ""), [("daemon", "one two three four five six seven eight")], 40, [], True))
    assert lines[1:] == ["daemon  one two three four five six", "        seven eight"]


def test_wide_letters_take_two_columns() -> None:
    _, row = fitted(("label",), [("猫" * 20,)], 15, [], False)
    assert row == f"{'猫' * 7}…"
