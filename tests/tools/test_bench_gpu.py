"""`tools/bench gpu`: the order of its parts, and a report that is whole whatever a part does."""

import sys
from pathlib import Path

from benches.gpu import Part, parts, run_all

SAYS_A_TABLE = [sys.executable, "-c", "print('| a |\\n|---|\\n| 1 |')"]
FAILS = [sys.executable, "-c", "raise SystemExit('out of memory')"]
HANGS = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(600)"]


def test_what_matters_most_comes_first() -> None:
    titles = [part.title for part in parts(["nano", "tiny", "large"])]
    assert titles == [
        "Correctness",
        "Speed, nano",
        "Speed, tiny",
        "Speed, large",
        "Four streams of four",
        "Roofline",
        "Speed, tiny beside a compiled predictor",
        "Memory over 10,000 frames",
    ]


def test_a_part_that_fails_or_hangs_costs_only_itself(tmp_path: Path) -> None:
    planned = [
        Part("One", "launches", FAILS, 60),
        Part("Two", "launches", HANGS, 2),
        Part("Three", "launches", SAYS_A_TABLE, 60),
    ]
    outcomes = run_all(planned, 600, tmp_path / "report.md")
    assert [outcome.ended for outcome in outcomes] == ["FAILED (1)", "stopped after 2 s", "done"]
    report = (tmp_path / "report.md").read_text()
    assert "out of memory" in report
    assert "| 1 |" in report


def test_a_part_without_time_left_is_named(tmp_path: Path) -> None:
    times_s = iter([0.0, 11.0])
    (outcome,) = run_all([Part("One", "", HANGS, 60)], 10, tmp_path / "report.md", lambda: next(times_s))
    assert outcome.ended == "not run: no time was left"
    assert "not run" in (tmp_path / "report.md").read_text()
