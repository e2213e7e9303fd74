"""All that a GPU has to show, in one command and in the order that matters most: correctness, speed, memory.

Each part is a process of its own with a time limit, and the report is written anew after each, so that ten minutes
are never lost to a part that fails or hangs. Parts for which no time is left are named as not run.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benches import report
from tracker.engine.models import zoo

ROOT = Path(__file__).resolve().parents[2]
OURS = [
    str(ROOT),
    str(ROOT / "tools"),
    str(ROOT / "tests"),
]  # a bare `python3 -m benches gpu` has installed nothing
# No plug-in is needed that a bare machine lacks, and a warning of another version of torch fails nothing.
PLAIN_PYTEST = (
    "-o",
    "addopts=--import-mode=importlib -ra",
    "-o",
    "filterwarnings=default",
    "-p",
    "no:cacheprovider",
)
SMALLEST_FIRST = ("nano", "sam2.1_hiera_tiny", "sam2.1_hiera_small", "sam2.1_hiera_base_plus", "sam2.1_hiera_large")


class Part(NamedTuple):
    """One measurement: what its figures are bounded by, and the command."""

    title: str
    bound: str
    command: list[str]
    limit_s: int


class Outcome(NamedTuple):
    """What a part printed, and how it ended."""

    part: Part
    ended: str
    output: str


def parts(sizes: Sequence[str]) -> list[Part]:
    """What is run, the most important first. Compiling the official predictor takes minutes, so that comes late."""
    tests = [sys.executable, "-m", "pytest", *PLAIN_PYTEST, "-q", "-m", "gpu", "tests/engine/test_gpu.py"]
    official = sizes[1:] or sizes
    speed = [_speed(name, f"Speed, {name}", "--objects", "1,16") for name in sizes]
    return [
        Part("Correctness", "none: right or wrong", tests, 150),
        *speed[:2],
        *speed[:1:-1],
        _speed(official[0], "Four streams of four", "--objects", "4", "--streams", "4"),
        Part("Roofline", "operations and bytes", _bench("roofline", ",".join(sizes[:2]), "--frames", "20"), 60),
        _speed(official[0], f"Speed, {official[0]} beside a compiled predictor", "--objects", "1,16", "--compiled"),
        Part("Memory over 10,000 frames", "growth", _bench("soak", sizes[0], "--frames", "10000"), 240),
    ]


def _speed(model: str, title: str, *options: str) -> Part:
    bound = "one object: launches, then memory bandwidth; sixteen: multiplications of memory attention"
    return Part(title, bound, _bench("engine", model, *options), 240)


def _bench(kind: str, model: str, *options: str) -> list[str]:
    return [sys.executable, "-m", "benches", kind, "--device", "cuda", "--model", model, *options]


def rows(args: argparse.Namespace) -> list[report.Row]:
    """Run the parts and write the report. One row a part."""
    if not torch.cuda.is_available():
        sys.exit("bench gpu: no CUDA device is usable here; check nvidia-smi, or measure a CPU: tools/bench engine")
    known = [name for name in SMALLEST_FIRST if name in zoo.names()]
    outcomes = run_all(parts(known), args.seconds, args.report)
    return [{"part": outcome.part.title, "ended": outcome.ended} for outcome in outcomes]


def run_all(
    planned: Sequence[Part], seconds: float, path: Path, clock: Callable[[], float] = time.monotonic
) -> list[Outcome]:
    """Run parts one after the other until the time is up; the report at `path` is whole after each."""
    deadline_s = clock() + seconds
    outcomes: list[Outcome] = []
    for part in planned:
        outcomes.append(_run(part, deadline_s - clock()))
        path.write_text(_markdown(outcomes))
    return outcomes


def _run(part: Part, left_s: float) -> Outcome:
    if left_s <= 0:
        return Outcome(part, "not run: no time was left", "")
    limit_s = min(part.limit_s, left_s)
    try:
        done = subprocess.run(
            part.command,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([*OURS, os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as expired:
        printed: bytes = expired.stdout or b""  # bytes, whatever was asked for
        text = printed.decode(errors="replace")
        return Outcome(part, f"stopped after {limit_s:.0f} s", text)
    return Outcome(part, "done" if done.returncode == 0 else f"FAILED ({done.returncode})", done.stdout)


def _markdown(outcomes: Sequence[Outcome]) -> str:
    lines = ["# GPU report", "", *(f"- {name}: {value}" for name, value in report.machine().items())]
    for part, ended, output in outcomes:
        command = " ".join(part.command[1:])
        lines += ["", f"## {part.title}: {ended}", "", f"`{command}`; bounded by {part.bound}.", ""]
        tables = [line for line in output.splitlines() if line.startswith("|")]
        lines += tables or ["```", *output.splitlines()[-20:], "```"]
    return "\n".join(lines) + "\n"
