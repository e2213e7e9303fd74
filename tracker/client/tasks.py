"""Tasks that are to end."""

import asyncio
from collections.abc import Iterable

AGAIN_S = 0.5


async def ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel them until they are done: `wait_for` of Python 3.11 forgets that it was cancelled where what it waited
    for came at that very moment."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        for task in done:
            if not task.cancelled():
                task.exception()  # nobody else asks for it
