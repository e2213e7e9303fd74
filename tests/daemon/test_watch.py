"""The watch ends what would else be silent: each bound of its own."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from helpers.waiting import wait_until
from tracker.daemon import watch
from tracker.daemon.watch import Watch


class Part:
    """A thread, as the watch sees it."""

    def __init__(self) -> None:
        self.alive = True
        self.busy_since_s: float | None = None

    def is_alive(self) -> bool:
        return self.alive


class Peers:
    """A socket's connections."""

    def __init__(self) -> None:
        self.shed_n = 0
        self.looked_n = 0

    def shed(self) -> None:
        self.shed_n += 1

    def look(self) -> None:
        self.looked_n += 1


class Watched:
    """A watch, and what it does."""

    def __init__(self) -> None:
        self.part, self.peers = Part(), Peers()
        self.failures: list[str] = []
        self.abandoned: list[str] = []
        self.in_step = False

    @contextmanager
    def watching(self, memory_bytes: int = 2**50) -> Iterator[Watch]:
        looking = Watch(
            {"delivery": self.part},
            [self.peers],
            memory_bytes,
            self.failures.append,
            self.abandoned.append,
            lambda: self.in_step,
        )
        looking.start()
        try:
            yield looking
        finally:
            looking.stop()


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_healthy_process_is_left_alone_and_its_sockets_are_looked_at(watched: Watched) -> None:
    with watched.watching():
        wait_until(lambda: watched.peers.looked_n > 3)
    assert (watched.failures, watched.abandoned, watched.peers.shed_n) == ([], [], 0)


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda part: setattr(part, "alive", False), "the thread 'delivery' has died"),
        (
            lambda part: setattr(part, "busy_since_s", time.monotonic() - watch.STUCK_S - 1),
            "the thread 'delivery' has been stuck for 30 s",
        ),
    ],
)
def test_a_thread_that_is_dead_or_stuck_ends_the_process_once(
    watched: Watched, happens: Callable[[Part], None], why: str
) -> None:
    with watched.watching():
        happens(watched.part)
        wait_until(lambda: bool(watched.failures))
        looked_n = watched.peers.looked_n
        wait_until(lambda: watched.peers.looked_n > looked_n + 3)
    assert watched.failures == [why]


def test_a_thread_that_works_long_is_not_stuck(watched: Watched) -> None:
    watched.part.busy_since_s = time.monotonic() - watch.STUCK_S / 2
    with watched.watching():
        wait_until(lambda: watched.peers.looked_n > 3)
    assert watched.failures == []


def test_over_its_memory_the_newest_connections_go_and_in_the_end_the_process(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "SHED_PAUSE_S", 0.0)
    with watched.watching(memory_bytes=1):
        wait_until(lambda: bool(watched.failures))
    assert watched.peers.shed_n == watch.SHED_TRIES
    (failure,) = watched.failures
    assert "over limits.memory_mib" in failure


def test_where_shedding_helps_nothing_ends(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    used = [200]
    monkeypatch.setattr(watch, "SHED_PAUSE_S", 0.0)
    monkeypatch.setattr(watch, "resident_bytes", lambda: used[0])
    monkeypatch.setattr(watched.peers, "shed", lambda: used.__setitem__(0, 50))
    with watched.watching(memory_bytes=100):
        wait_until(lambda: used[0] == 50)
        for _ in range(watch.SHED_TRIES + 1):  # each time anew
            watched.peers.looked_n = 0
            wait_until(lambda: watched.peers.looked_n > 2)
            used[0] = 200
            wait_until(lambda: used[0] == 50)
    assert watched.failures == []


def test_nobody_is_shut_for_memory_that_is_free(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """The C library keeps what was freed, and it counts as resident until it is given back."""
    used = [200]
    monkeypatch.setattr(watch, "resident_bytes", lambda: used[0])
    monkeypatch.setattr(watch, "give_back_memory", lambda: used.__setitem__(0, 50))
    with watched.watching(memory_bytes=100):
        wait_until(lambda: used[0] == 50)
        wait_until(lambda: watched.peers.looked_n > 3)
    assert (watched.peers.shed_n, watched.failures) == (0, [])


@pytest.mark.parametrize(("in_step", "bound"), [(False, "STOP_S"), (True, "STOP_IN_STEP_S")])
def test_a_stop_that_takes_too_long_is_abandoned(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, in_step: bool, bound: str
) -> None:
    other = {"STOP_S": "STOP_IN_STEP_S", "STOP_IN_STEP_S": "STOP_S"}[bound]
    monkeypatch.setattr(watch, bound, 0.2)
    monkeypatch.setattr(watch, other, 3600.0)
    watched.in_step = in_step
    with watched.watching() as looking:
        looking.stopping()
        wait_until(lambda: bool(watched.abandoned))
    assert watched.abandoned == ["the stop took too long"]


def test_a_stop_is_counted_from_the_end_of_the_step_that_was_under_way(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STOP_S", 3600.0)
    monkeypatch.setattr(watch, "STOP_IN_STEP_S", 10_000.0)
    watched.in_step = True

    def wait_for_looks() -> None:
        looked_n = watched.peers.looked_n
        wait_until(lambda: watched.peers.looked_n > looked_n + 2)

    with watched.watching() as looking:
        looking._stopping_s = time.monotonic() - 5000.0
        wait_for_looks()
        watched.in_step = False
        wait_for_looks()
        assert watched.abandoned == []
        monkeypatch.setattr(watch, "STOP_S", 0.1)
        wait_until(lambda: bool(watched.abandoned))


def test_a_stop_in_time_is_not(watched: Watched) -> None:
    with watched.watching() as looking:
        looking.stopping()
    assert watched.abandoned == []


def test_the_bounds_are_those_that_are_documented() -> None:
    assert (watch.STUCK_S, watch.STOP_S, watch.STOP_IN_STEP_S) == (30, 2, 10)
