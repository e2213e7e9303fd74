"""A folder of results on a share that does not answer for a while: the box goes on, and can be stopped."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.boxes import until
from helpers.fleet_files import pictures_in
from helpers.fleets import nats_server
from helpers.waiting import wait_until
from helpers.workers import ask, worker_of
from tracker.fleet import files
from tracker.fleet.files import Files
from tracker.fleet.settings import JobsConfig
from tracker.fleet.work import Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

STANDS_STILL_S = 10.0
WORK = Work(kind="segment", want=["coco"], everything=True)
# A child that answers as the real one does, with a result of one line.
CHILD = """
import json, pathlib, sys
for line in sys.stdin:
    (pathlib.Path(json.loads(line)["folder"]) / "coco.json").write_text("[]")
    print("{}", flush=True)
"""
# A process that ends while a share does not answer it.
ENDS = """
import asyncio, threading
from tracker.fleet.aside import Aside

async def main():
    begun = threading.Event()
    work = Aside().begin(lambda: (begun.set(), threading.Event().wait()))
    await asyncio.to_thread(begun.wait)
    work.cancel()

asyncio.run(main())
"""

CALLS: dict[str, tuple[Any, str]] = {
    "the path is looked up": (os.path, "realpath"),
    "the job's folder is made": (Path, "mkdir"),
    "the file's folder is made": (tempfile, "mkdtemp"),
    "that is locked": (fcntl, "flock"),
    "results are moved": (Path, "rename"),
    "what others left is looked for": (Path, "glob"),
    "what is unfinished is removed": (shutil, "rmtree"),
}
IN_NATS: dict[str, tuple[Any, str]] = {
    "names are read": (Path, "rglob"),
    "results are read": (Path, "read_bytes"),
}


class Share:
    """A folder; one call to it does not return until `answers` is set."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.is_asked = threading.Event()
        self.answers = threading.Event()
        self.held_up = False  # nobody else did anything meanwhile

    @asynccontextmanager
    async def has_a_box_wait(
        self, there: Files, call: tuple[Any, str], pictures: Sequence[Path], config: JobsConfig
    ) -> AsyncIterator[None]:
        """With a box that works on pictures, once the share does not answer this call of it."""
        owner, name = call
        await files.submit(there, WORK, pictures)
        self.monkeypatch.setattr(owner, name, self._slow(getattr(owner, name)))
        async with worker_of(there, config):
            await until(self._is_asked)
            yield

    async def _is_asked(self) -> bool:
        return self.is_asked.is_set()

    def _slow(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **settings: Any) -> Any:
            if str(self.folder) in repr((args, settings)):
                self.is_asked.set()
                self.held_up |= not self.answers.wait(STANDS_STILL_S)
            return call(*args, **settings)

        return called


@pytest.fixture
def share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Share:
    monkeypatch.setattr("tracker.fleet.child.COMMAND", [sys.executable, "-c", CHILD])
    (tmp_path / "share").mkdir()
    return Share(tmp_path / "share", monkeypatch)


async def _is_done(there: Files) -> bool:
    return [one.done for one in await files.progress(there)] == [1]


@pytest.mark.parametrize("case", [*CALLS, *IN_NATS])
def test_the_box_goes_on(case: str, share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_in(share.folder / "pictures", 1)
    results = str(share.folder / "results") if case in CALLS else None
    monkeypatch.setattr(tempfile, "tempdir", str(share.folder))
    config = JobsConfig(inputs=[str(share.folder)], results=results)

    async def work(there: Files) -> None:
        async with share.has_a_box_wait(there, (CALLS | IN_NATS)[case], pictures, config):
            share.answers.set()
            await until(lambda: _is_done(there))

    with nats_server(tmp_path) as server:
        ask(server, work)
    assert not share.held_up


@pytest.mark.parametrize("case", CALLS)
def test_the_box_is_stopped(case: str, share: Share, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was at is done wholly or not at all, once the share answers."""
    pictures = pictures_in(tmp_path / "pictures", 1)
    results = share.folder / "results"
    monkeypatch.setattr("tracker.fleet.worker.STOPPED_S", 0.1)
    config = JobsConfig(inputs=[str(share.folder), str(tmp_path)], results=str(results))

    async def work(there: Files) -> None:
        async with share.has_a_box_wait(there, CALLS[case], pictures, config):
            pass

    before = set(threading.enumerate())
    with nats_server(tmp_path) as server:
        ask(server, work)
    left = [thread for thread in threading.enumerate() if thread.name == "files" and thread not in before]
    assert left
    share.answers.set()
    wait_until(lambda: not any(thread.is_alive() for thread in left))
    found = sorted(str(path.relative_to(results)) for path in results.glob("*/**/*"))
    assert [Path(path).name for path in found] in ([], ["000000-picture0", "coco.json"])
    assert not share.held_up


def test_the_process_ends() -> None:
    subprocess.run([sys.executable, "-c", ENDS], check=True, timeout=60)
