"""How fast pictures come, and for how long none came."""

import time

import pytest

from tracker.streams.arrivals import KEPT, Arrivals


@pytest.mark.parametrize(
    ("moments_s", "rate"),
    [([], None), ([1.0], None), ([1.0, 1.0], None), ([1.0, 1.1], 10), ([1.0, 1.1, 1.4], 5)],
)
def test_rate(moments_s, rate):
    arrivals = Arrivals()
    for moment_s in moments_s:
        arrivals.add(round(moment_s * 1e9))
    assert arrivals.rate == (None if rate is None else pytest.approx(rate))


def test_only_the_newest_count():
    arrivals = Arrivals()
    for moment_ns in range(0, 10 * KEPT * 10**9, 10**9):
        arrivals.add(moment_ns)
    assert len(arrivals) == KEPT
    assert arrivals.rate == pytest.approx(1)


def test_silence(monkeypatch):
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5 * 10**9)
    arrivals = Arrivals()
    assert arrivals.silent_s is None
    arrivals.add(2 * 10**9)
    assert arrivals.silent_s == 3
    arrivals.clear()
    assert arrivals.silent_s is None
