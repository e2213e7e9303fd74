"""The log: one line an event, in which nothing that strangers wrote is obeyed by a terminal."""

import logging

from tracker.wording import printable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class PlainLines(logging.Formatter):
    """Control characters and marks of writing direction written out; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as the base class has it
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - as the base class has it
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join(map(printable, text.split("\n")))


def begin(level: str) -> None:
    """Log to standard error from now on, from `level` upwards."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainLines(FORMAT))
    logging.basicConfig(level=level.upper(), handlers=[handler])
