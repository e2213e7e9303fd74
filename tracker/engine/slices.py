"""Work in slices: a generator yields wherever other work may go on, and returns its result."""

from collections.abc import Generator
from typing import TypeVar

R = TypeVar("R")
S = TypeVar("S")

Slices = Generator[None, None, R]


def whole(work: Slices[R]) -> R:
    """The result of work that nothing has to go on beside."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: R = done.value
            return result


def saying(said: S, work: Slices[R]) -> Generator[S, None, R]:
    """The same work for who wants to hear something at each slice."""
    while True:
        try:
            next(work)
        except StopIteration as done:
            result: R = done.value
            return result
        yield said
