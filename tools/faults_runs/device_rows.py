"""Faults of the device and of threads: no memory now and then, a step that hangs, one that raises."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path

from faults_runs.daemon import BOX, STREAM, Served, steps
from faults_runs.faulty_daemon import OUT_OF_MEMORY_EVERY, PATIENCE_S, THREADS
from tracker.client.client import Client
from tracker.errors import TrackerError
from tracker.protocol.messages import Event, Tracks

PATIENT_S = 120.0
ENDING_S = 10.0  # that a stop may take with a step under way
MODULE = ("-m", "faults_runs.faulty_daemon")


def out_of_memory(folder: Path, _: bool) -> tuple[str, list[str]]:
    """Every 50th step finds no device memory: of three objects the newest go, the last one and its stream stay."""
    served = Served(folder, entry=(*MODULE, "out_of_memory"), stream={"pace": "all"}, image_size=96)
    try:
        with (
            Client(served.control, timeout_s=30) as client,
            client.subscribe(topics=["events", "tracks"], timeout_s=30) as heard,
        ):
            for _i in range(2):
                client.add(STREAM, box=BOX)
            removed, frames, deadline_s = 0, 0, time.monotonic() + PATIENT_S
            for message in heard:
                removed += isinstance(message.body, Event) and message.body.event == "object_removed"
                frames += isinstance(message.body, Tracks)
                if frames >= 4 * OUT_OF_MEMORY_EVERY or time.monotonic() > deadline_s:
                    break
            left = [record.object for record in client.objects(STREAM).objects]
        alive = served.alive()
    finally:
        served.stop()
    problems = [] if alive else ["it ended"]
    problems += [] if left == [1] else [f"objects {left} are left"]
    problems += [] if frames >= 4 * OUT_OF_MEMORY_EVERY else ["frames do not go on"]
    return f"{frames} frames went on, {removed} newest objects removed, left: {left}", problems


def hanging_step(folder: Path, _: bool) -> tuple[str, list[str]]:
    """A step never comes back: the process says so, saves what it knows and ends with an error."""
    state = {"dir": str(folder / "state"), "interval_s": 0.2}
    settings = {"pace": "all"}
    served = Served(folder, entry=(*MODULE, "hang"), stream=settings, image_size=96, persist=state)
    try:
        with Client(served.control, timeout_s=30) as client:
            client.add(STREAM, box=BOX, label="before")
        deadline_s = time.monotonic() + PATIENT_S
        before = -1
        while before != (now := steps(served.control, timeout_s=1)) and time.monotonic() < deadline_s:
            before = now
            time.sleep(0.5)
        began_s = time.monotonic()
        code = _exit_code(served, PATIENCE_S + ENDING_S + PATIENT_S)
        took_s = time.monotonic() - began_s
        said = "'main' has been stuck" in served.log.read_text()
    finally:
        served.stop()
    labels = _labels_after(folder, state)
    problems = [] if code == 1 else [f"exit status {code}"]
    problems += [] if said else ["the log does not say so"]
    problems += [] if "before" in labels else ["what was added before is lost"]
    return f"exit status {code} {took_s:.1f} s after the last sign of life, objects kept: {len(labels)}", problems


def raising_threads(folder: Path, short: bool) -> tuple[str, list[str]]:
    """Each thread's function raises in turn: the process says which, saves what it knows and ends with an error."""
    problems = []
    names = THREADS[:1] if short else THREADS
    for name in names:
        own = folder / name
        own.mkdir()
        problems += [f"{name}: {problem}" for problem in _raising(own, name)]
    return f"{len(names)} threads: {', '.join(names)}", problems


def _raising(folder: Path, name: str) -> list[str]:
    state = {"dir": str(folder / "state"), "interval_s": 0.2}
    served = Served(
        folder, entry=(*MODULE, f"raise_in_{name}"), stream={"pace": "all"}, image_size=96, persist=state
    )
    try:
        with Client(served.control, timeout_s=5) as client, client.subscribe(timeout_s=1):
            with suppress(TrackerError):  # it may have ended
                client.add(STREAM, box=BOX, label="before")
                while served.alive():
                    client.info()
            code = _exit_code(served, PATIENT_S)
        log = served.log.read_text()
    finally:
        served.stop()
    problems = [] if code == 1 else [f"exit status {code}"]
    problems += [] if name in log and "a bug of its own" in log else ["the log does not say so"]
    problems += [] if "before" in _labels_after(folder, state) else ["what was added before is lost"]
    return problems


def _exit_code(served: Served, timeout_s: float) -> int | None:
    try:
        return served.process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None


def _labels_after(folder: Path, state: dict[str, object]) -> list[str | None]:
    """Labels of the objects that a daemon finds which is started again."""
    served = Served(folder, image_size=96, persist=state)
    try:
        with Client(served.control, timeout_s=30) as client:
            return [record.label for record in client.objects(STREAM).objects]
    finally:
        served.stop()


ROWS = {row.__name__: row for row in (out_of_memory, hanging_step, raising_threads)}
