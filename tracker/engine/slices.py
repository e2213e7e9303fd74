"""Work in slices: a generator yields wherever other work may go on, and returns its result."""

from collections.abc import Generator
from typing import TypeVar

R = TypeVar("R")

Slices = Generator[None, None, R]


def whole(work: Slices[R]) -> R:
    """The result of work that nothing has to go on beside."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: R = done.value
            return result
