"""Tasks that are to end."""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

AGAIN_S = 0.5


def is_cancelled() -> bool:
    """Whether the running task was: `wait_for` of Python 3.11 forgets it where what it waits for comes at that very
    moment."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel them until they are done: once can be forgotten, see `is_cancelled`."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # nobody else asks for it


async def waited_out(work: "asyncio.Future[Any]", patience_s: float) -> None:
    """Until it is done, at most so long. Who is cancelled meanwhile, however often, is so afterwards."""
    deadline_s = time.monotonic() + patience_s
    cancelled = False
    while not work.done() and (left_s := deadline_s - time.monotonic()) > 0:
        try:
            await asyncio.wait([work], timeout=left_s)
        except asyncio.CancelledError:
            cancelled = True
    if work.done() and not work.cancelled():
        work.exception()  # nobody else asks for it
    if cancelled:
        raise asyncio.CancelledError
