"""The daemon's log: a line an event, whatever is in it."""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.service_manager import Service
from helpers.waiting import wait_until
from tracker.cli import logs


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


NASTY = "title\x1b]0;owned\x07\nERROR forged\u202e"


def fail() -> None:
    raise ValueError(f"bad {NASTY}")


@pytest.mark.parametrize("style", ["text", "json"])
def test_each_event_is_one_line_that_moves_no_terminal(
    capsys: pytest.CaptureFixture[str], style: logs.Style
) -> None:
    logs.set_up("info", style)
    log = logging.getLogger("tracker.test")
    log.debug("unseen")
    log.warning("stream %s: %s", "cam", NASTY)
    try:
        fail()
    except ValueError:
        log.exception("it failed")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    if style == "json":
        first, second = map(json.loads, lines)
        assert first["message"] == f"stream cam: {NASTY}"
        assert (first["level"], first["logger"], first["thread"]) == ("warning", "tracker.test", "MainThread")
        assert first["time"].endswith("+00:00")
        assert "Traceback" in second["exception"]
    else:
        assert " WARNING tracker.test: stream cam: title\\x1b]0;owned\\x07\\nERROR forged\\u202e" in lines[0]
        assert "ERROR tracker.test: it failed: ValueError: bad title" in lines[1]
        assert lines[1].rstrip("]").endswith(" fail")  # where it was


@pytest.mark.parametrize(
    ("level", "priority"), [("critical", 2), ("error", 3), ("warning", 4), ("info", 6), ("debug", 7)]
)
def test_the_journal_gets_priorities_and_no_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, priority: int
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        monkeypatch.setattr(sys, "stderr", journal)
        status = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.set_up("debug")
        logging.getLogger("tracker.test").log(getattr(logging, level.upper()), "hello")
        journal.seek(0)
        assert journal.read() == f"<{priority}>tracker.test: hello\n"


def test_another_stream_than_the_journals_is_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    assert not logs.is_journal()


@pytest.mark.usefixtures("preloaded")
def test_the_daemon_logs_as_it_is_told(tmp_path: Path) -> None:
    with Service(tmp_path, {"streams": {"dead": {"url": "missing.mp4"}}}, "--log", "json") as service:
        service.wait_for("READY=1")
        service.wait_for(lambda said: "dead failed" in said)
        wait_until(lambda: "stream dead: failed" in service.log())  # said by another thread than the status
        lines = [json.loads(line) for line in service.log().splitlines()]
    assert {"level": "warning", "logger": "tracker.streams.course"}.items() <= next(
        line for line in lines if line["message"].startswith("stream dead: failed")
    ).items()
