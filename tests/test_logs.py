"""What strangers wrote, in the log."""

import io
import logging

import pytest

from tracker.logs import FORMAT, PlainLines


@pytest.fixture
def lines() -> tuple[logging.Logger, io.StringIO]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(PlainLines(FORMAT))
    logger = logging.Logger("tracker.test")
    logger.addHandler(handler)
    return logger, out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("one\ntwo", "one\\ntwo"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("caf\u00e9 \u6771\u4eac", "caf\u00e9 \u6771\u4eac"),
        ("in/\udcff.png", "in/\\udcff.png"),
    ],
)
def test_nothing_that_a_terminal_would_obey_reaches_it(
    lines: tuple[logging.Logger, io.StringIO], text: str, shown: str
) -> None:
    logger, out = lines
    logger.error("a file: %s", text)
    assert out.getvalue().endswith(f"a file: {shown}\n")
    assert out.getvalue().count("\n") == 1
    out.getvalue().encode()


def test_a_traceback_keeps_its_lines_and_shows_texts_escaped(lines: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = lines
    try:
        raise ValueError("\x1b[2J")
    except ValueError:
        logger.exception("failed")
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") > 3
