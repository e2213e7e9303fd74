"""A box's child process for files does not outlive its box, and works on nothing that nobody waits for."""

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress

import msgspec
import psutil
import pytest

from helpers.fleets import START_S
from helpers.waiting import wait_until
from tracker.fleet import child
from tracker.fleet.child import Child, Order
from tracker.fleet.work import FileTask, Work

STUCK = [sys.executable, "-c", "import time; time.sleep(1000)"]  # over a file, and hears nothing

# A box, as far as it has a child.
BOX = """
import asyncio
import sys

import msgspec

from tracker.fleet import child

child.COMMAND = sys.argv[2:]
asyncio.run(child.Child().do(msgspec.json.decode(sys.argv[1], type=child.Order)))
"""


def order() -> Order:
    work = Work(kind="segment", want=["coco"], everything=True)
    task = FileTask(job="20261126-120000-0a1b2c", number=0, path="/picture.png", work=work)
    return Order(task=task, folder="/nowhere", device="cpu")


def children(pid: int | None = None) -> list[psutil.Process]:
    """Those that sleep, and not what Python has become on the way there."""
    found = psutil.Process(pid).children()
    return [one for one in found if _command(one) == STUCK]


def _command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def is_gone(process: psutil.Process) -> bool:
    """Or dead, and not buried yet by whoever took it over."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def test_it_ends_with_its_box_however_that_ends() -> None:
    """It would write into a folder that the next box, which does its file, has tidied up."""
    words = [sys.executable, "-c", BOX, msgspec.json.encode(order()).decode(), *STUCK]
    with subprocess.Popen(words) as box:
        wait_until(lambda: children(box.pid), START_S)
        (working,) = children(box.pid)
        box.kill()
    try:
        wait_until(lambda: is_gone(working))
    finally:
        with suppress(psutil.NoSuchProcess):
            working.kill()


def test_it_ends_where_nobody_waits_for_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "COMMAND", STUCK)

    async def work() -> None:
        one = Child()
        doing = asyncio.ensure_future(one.do(order()))
        while not (working := children()):
            await asyncio.sleep(0.01)
        doing.cancel()
        await asyncio.wait([doing])
        assert (doing.cancelled(), is_gone(working[0])) == (True, True)
        await one.stop()

    asyncio.run(asyncio.wait_for(work(), START_S))


def test_it_has_ended_where_its_box_is_stopped_however_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "COMMAND", STUCK)

    async def work() -> int | None:
        one = Child()
        doing = asyncio.ensure_future(one.do(order()))
        while (process := one._process) is None:
            await asyncio.sleep(0)
        while not doing.done():
            doing.cancel()
            await asyncio.sleep(0)
        return process.returncode

    assert asyncio.run(work()) == -signal.SIGKILL
