"""A box that dies over a file leaves nothing for long, and one that lives loses nothing, however slow it is."""

import errno
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.boxes import until
from helpers.fleet_files import pictures_in
from helpers.fleets import nats_server
from helpers.workers import ask, worker_of
from tracker.fleet import files
from tracker.fleet.files import Files
from tracker.fleet.settings import JobsConfig
from tracker.fleet.unfinished import tidy_up, unfinished
from tracker.fleet.work import Work

pytestmark = pytest.mark.timeout(120)

# A box over a file, as far as it has a folder; it says so, and waits.
SLOW = """
import sys
from pathlib import Path

from tracker.fleet.unfinished import unfinished

with unfinished(Path(sys.argv[1]), 7) as folder:
    (folder / "half").touch()
    print(folder.name, flush=True)
    sys.stdin.read()
"""
# A child that answers as the real one does, and works on nothing; meanwhile a box dies over another file.
CHILD = """
import json, pathlib, sys
for line in sys.stdin:
    job = pathlib.Path(json.loads(line)["folder"]).parents[1]
    (job / ".unfinished-5-def" / "half").mkdir(parents=True)
    print("{}", flush=True)
"""


@contextmanager
def slow_box(parent: Path) -> Iterator["tuple[subprocess.Popen[str], Path]"]:
    command = [sys.executable, "-c", SLOW, str(parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, parent / process.stdout.readline().strip()
        finally:
            process.kill()


def test_what_is_unfinished_is_its_boxs_until_that_dies(tmp_path: Path) -> None:
    with slow_box(tmp_path) as (process, folder):
        tidy_up(tmp_path.parent, tmp_path.name)
        assert (folder / "half").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert folder.exists()
        tidy_up(tmp_path.parent, tmp_path.name)
    assert list(tmp_path.iterdir()) == []


def test_a_share_that_is_away_ends_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_away(folder: Path, pattern: str) -> Iterator[Path]:
        raise OSError(errno.ESTALE, pattern, folder)

    monkeypatch.setattr(Path, "glob", is_away)
    tidy_up(tmp_path)


def test_what_was_finished_is_out_of_it_and_the_rest_is_gone(tmp_path: Path) -> None:
    with unfinished(tmp_path, 1) as folder:
        (folder / "half").touch()
        (folder / "whole").touch()
        (folder / "whole").rename(tmp_path / "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]


def test_a_box_removes_what_was_left_when_it_starts_and_with_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of other files: one that was done by two boxes is not done again when the slower one dies."""
    monkeypatch.setattr("tracker.fleet.child.COMMAND", [sys.executable, "-c", CHILD])
    results = tmp_path / "results"
    old = results / "20261126-120000-0a1b2c" / ".unfinished-3-abc"
    (old / "half").mkdir(parents=True)
    config = JobsConfig(inputs=[str(tmp_path)], results=str(results))
    (picture,) = pictures_in(tmp_path / "pictures", 1)

    async def work(there: Files) -> tuple[list[str], str]:
        job = await files.submit(there, Work(kind="segment", want=["coco"], everything=True), [picture])
        place = results / job.job
        place.mkdir()

        async def is_done() -> bool:
            return [one.done for one in await files.progress(there)] == [1]

        with slow_box(place) as (_, of_a_box):
            async with worker_of(there, config):
                await until(is_done)
            return sorted(path.name for path in place.iterdir()), of_a_box.name

    with nats_server(tmp_path) as server:
        names, of_a_box = ask(server, work)
    assert names == sorted(["000000-picture0", of_a_box])
    assert not old.exists()
