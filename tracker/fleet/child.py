"""A box's child process for files, which has the models: a line of JSON for each file, and one back."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys

import msgspec
from msgspec import Struct

from tracker.client.tasks import waited_out
from tracker.errors import TrackerError
from tracker.fleet.work import FileTask

COMMAND = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()", "fleet", "worker"]
NICE = 10  # live streams come first
MAX_LINE_BYTES = 2**16
KILLED_S = 10.0  # until one that is killed has ended: a large one takes its time
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Order(Struct, frozen=True, kw_only=True):
    """A line to the child."""

    task: FileTask
    folder: str  # that its results go into
    device: str


class Answer(Struct, frozen=True, kw_only=True):
    """A line from the child."""

    error: str | None = None


class Child:
    """`trackerd fleet worker`: loaded once, then it takes a line for each file."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def do(self, order: Order) -> Answer:
        """Raises TrackerError where the child ended over it."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                preexec_fn=_before_it_begins,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            await self._process.stdin.drain()
            line = await self._process.stdout.readline()
            return msgspec.json.decode(line, type=Answer)
        except (OSError, ValueError, RecursionError):
            await self.stop()
            raise TrackerError("the process that worked on it ended") from None
        except asyncio.CancelledError:  # it would go on writing where nobody tidies up
            await self.stop()
            raise

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await waited_out(asyncio.ensure_future(process.wait()), KILLED_S)


def _before_it_begins() -> None:
    """It ends with its box, however that ends: by then another box does the file, and tidies up after both."""
    os.nice(NICE)
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
