"""The daemon's log: one line an event, on standard error, for people, for systemd's journal or as JSON."""

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tracker.config.wording import printable

Style = Literal["text", "json"]

# syslog's priorities, by which journalctl -p chooses.
PRIORITIES = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


def set_up(level: str, style: Style = "text") -> None:
    """Log to standard error from now on. Into systemd's journal, text goes with its priority and without a time."""
    handler = logging.StreamHandler()
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(JournalFormatter() if is_journal() else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def is_journal() -> bool:
    """Whether standard error leads into systemd's journal."""
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class TextFormatter(logging.Formatter):
    """`2026-11-26 04:03:36,963 WARNING tracker.streams.course: stream cam: stalled`"""

    def format(self, record: logging.LogRecord) -> str:
        return f"{self.formatTime(record)} {record.levelname} {record.name}: {one_line(record)}"


class JournalFormatter(logging.Formatter):
    """`<4>tracker.streams.course: stream cam: stalled`: the journal has the time, and takes the priority off."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next((p for level, p in PRIORITIES.items() if record.levelno >= level), 7)
        return f"<{priority}>{record.name}: {one_line(record)}"


class JsonFormatter(logging.Formatter):
    """An object a line: `time` (ISO 8601), `level`, `logger`, `thread`, `message`; of an error, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def one_line(record: logging.LogRecord) -> str:
    """The message and, of an error, what it was and where; what strangers wrote into it moves no terminal."""
    text = record.getMessage()
    if record.exc_info and (error := record.exc_info[1]) is not None:
        text += f": {type(error).__name__}: {error} [{_where(error)}]"
    return printable(text)


def _where(error: BaseException) -> str:
    """The calls that led to it, the innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
