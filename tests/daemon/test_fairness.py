"""Whose request comes next."""

import time
from typing import Any, cast

import pytest

from tracker.daemon import fairness
from tracker.daemon.fairness import FairRequests
from tracker.sockets.request import Request


class Asked:
    """What is wanted of a request."""

    def __init__(self, owner: str, *, gone: bool = False) -> None:
        self.owner = owner.encode()
        self.gone = gone


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, to be set."""
    now_s = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    return now_s


def put(requests: FairRequests, *asked: Asked) -> None:
    for one in asked:
        requests.put(cast(Request, one))


def taken(requests: FairRequests, **options: Any) -> str | None:
    request = requests.take(**options)
    return None if request is None else request.owner.decode()


@pytest.mark.usefixtures("clock")
def test_who_used_least_lately_comes_first() -> None:
    requests = FairRequests()
    put(requests, Asked("a"), Asked("a"), Asked("b"))
    assert taken(requests) == "a"
    requests.spent(b"a", 0.01)
    assert taken(requests) == "b"
    assert taken(requests) == "a"
    assert taken(requests) is None


def test_requests_get_a_fifth_of_the_time_while_objects_are_tracked(clock: list[float]) -> None:
    requests = FairRequests()
    put(requests, *[Asked("a")] * 1000)
    answered_s = 0.0
    for _ in range(100):
        requests.refill(tracking=True)
        while taken(requests) is not None:
            clock[0] += 0.01
            answered_s += 0.01
            requests.spent(b"a", 0.01)
        clock[0] += 0.04  # a step of the model
    assert answered_s / (clock[0] - 100) == pytest.approx(0.2, abs=0.02)


def test_a_light_client_is_answered_where_the_time_is_used_up(clock: list[float]) -> None:
    requests = FairRequests()
    put(requests, Asked("light"))
    assert taken(requests) == "light"
    clock[0] += 5  # what it used fades
    put(requests, Asked("heavy"), Asked("heavy"), Asked("light"), Asked("light"))
    requests.refill(tracking=True)
    assert taken(requests) == "light"
    requests.spent(b"light", 0.001)
    requests.spent(b"heavy", 0.3)
    assert taken(requests) == "light"
    assert taken(requests) is None
    assert taken(requests, light_only=True) is None
    clock[0] += 2
    requests.refill(tracking=True)
    assert taken(requests) == "heavy"


@pytest.mark.usefixtures("clock")
def test_who_connects_again_and_again_is_no_light_client() -> None:
    requests = FairRequests()
    requests.spent(b"heavy", 0.3)
    put(requests, *(Asked(f"new{i}") for i in range(20)))
    requests.refill(tracking=True)
    assert taken(requests) is None


@pytest.mark.usefixtures("clock")
def test_requests_of_who_is_gone_are_dropped() -> None:
    requests = FairRequests()
    put(requests, Asked("a", gone=True), Asked("a", gone=True), Asked("b"))
    assert taken(requests) == "b"
    assert len(requests) == 0 or taken(requests) is None


@pytest.mark.usefixtures("clock")
def test_clients_are_remembered_within_bounds() -> None:
    requests = FairRequests()
    for i in range(2 * fairness.MAX_REMEMBERED):
        put(requests, Asked(f"{i}"))
        assert taken(requests) is not None
    assert len(requests._used_s) <= fairness.MAX_REMEMBERED
