"""Requests that wait: how many, of whom, and how large."""

from typing import cast

import pytest

from tracker.sockets.request import Request
from tracker.sockets.waiting import MAX_WAITING, MAX_WAITING_BYTES, MAX_WAITING_IN_ALL, Waiting


class Held:
    """What is wanted of a request."""

    def __init__(self, fd: int, nbytes: int = 100) -> None:
        self.fd = fd
        self.nbytes = nbytes
        self.gone = False


def filled(*held: Held) -> Waiting:
    waiting = Waiting()
    for one in held:
        waiting.add(cast(Request, one))
    return waiting


@pytest.mark.parametrize(
    ("held", "fd", "nbytes", "why"),
    [
        ([], 1, 2**20, None),
        ([Held(1)] * 1, 1, 2**20, None),
        ([Held(1) for _ in range(MAX_WAITING)], 1, 1, "256 requests of this connection wait"),
        ([Held(1) for _ in range(MAX_WAITING)], 2, 1, None),
        ([Held(i) for i in range(MAX_WAITING_IN_ALL)], 1, 1, "1024 requests wait for an answer, 1 of this"),
        ([Held(i) for i in range(MAX_WAITING_IN_ALL)], 5000, 1, None),
        ([Held(i, 2**20) for i in range(32)], 3, 1, "32 requests wait for an answer, 1 of this"),
        ([Held(i, 2**20) for i in range(32)], 99, 2**20, None),
        ([Held(i, 2**20) for i in range(31)], 3, 2**20, None),
    ],
)
def test_who_may_have_one_more_request_waiting(held: list[Held], fd: int, nbytes: int, why: str | None) -> None:
    """Who has none waiting always may: connections are bounded themselves."""
    refusal = filled(*held).no_room(fd, nbytes)
    assert (None if refusal is None else refusal.code) == (None if why is None else "at_capacity")
    assert why is None or why in str(refusal)


def test_the_bound_on_bytes_is_32_mib() -> None:
    assert MAX_WAITING_BYTES == 32 * 2**20


def test_what_is_answered_or_gone_makes_room() -> None:
    one, two = Held(1, MAX_WAITING_BYTES), Held(2)
    waiting = filled(one, two)
    assert waiting.no_room(2, 1) is not None
    waiting.forget(1)
    assert one.gone
    assert waiting.no_room(2, 1) is None
    assert waiting.take_out(cast(Request, two))
    assert not waiting.take_out(cast(Request, two))
    assert waiting.all() == []
