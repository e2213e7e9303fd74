"""What is under way to a browser, over links that are simulated in a time of their own."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

import pytest

from tracker.web.feed import topic_width
from tracker.web.pace import PER_STREAM, Pace

FPS = 25
BYTES = {"320": 18_000, "640": 40_000, "1280": 96_000, "full": 175_000}  # of a picture of eight objects at 1080p


@dataclass
class Link:
    """Carries one picture after the other and holds all that is sent faster, as large buffers do."""

    bytes_s: float
    round_trip_s: float = 0.0
    free_s: float = 0.0

    def arrival_s(self, size: int, now_s: float) -> float:
        self.free_s = max(self.free_s, now_s) + size / self.bytes_s
        return self.free_s + self.round_trip_s / 2


@dataclass
class Shown:
    """What a browser got: for each picture when it came, how old it was then, and its width."""

    at_s: list[float] = field(default_factory=list)
    age_s: list[float] = field(default_factory=list)
    width: list[str] = field(default_factory=list)

    def after(self, begin_s: float) -> "Shown":
        keep = [i for i, at_s in enumerate(self.at_s) if at_s >= begin_s]
        return Shown(*([column[i] for i in keep] for column in (self.at_s, self.age_s, self.width)))  # type: ignore


def simulate(links: dict[float, Link], streams: dict[str, int], seconds: float) -> dict[str, Shown]:
    """A browser looks at streams, each at a width; `links` by the time from which on they hold."""
    pace, shown = Pace(), {stream: Shown() for stream in streams}
    waiting: dict[str, float] = {}  # stream -> when its picture was made
    ticket = count()
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def later(at_s: float, act: Callable[[float], None]) -> None:
        heapq.heappush(events, (at_s, next(ticket), act))

    def send(now_s: float) -> None:
        link = links[max(begin_s for begin_s in links if begin_s <= now_s)]
        pace.round_trip_s = link.round_trip_s
        while stream := pace.next_of(waiting, streams, now_s):
            width = topic_width(pace.bounded(streams[stream]))
            pace.sent(stream, width, now_s)
            arrival_s = link.arrival_s(BYTES[width], now_s)
            note(stream, arrival_s, arrival_s - waiting.pop(stream), width)
            later(arrival_s + link.round_trip_s / 2, lambda at_s, stream=stream: confirm(stream, at_s))  # type: ignore

    def note(stream: str, arrival_s: float, age_s: float, width: str) -> None:
        seen = shown[stream]
        for column, value in ((seen.at_s, arrival_s), (seen.age_s, age_s), (seen.width, width)):
            column.append(value)  # type: ignore[arg-type]

    def confirm(stream: str, now_s: float) -> None:
        pace.confirmed(stream, now_s)
        send(now_s)

    def publish(now_s: float) -> None:
        waiting.update(dict.fromkeys(streams, now_s))
        send(now_s)
        later(now_s + 1 / FPS, publish)

    later(0.0, publish)
    while events[0][0] < seconds:
        at_s, _, act = heapq.heappop(events)
        act(at_s)
    return shown


@pytest.mark.parametrize(
    ("bytes_s", "round_trip_s", "least_fps", "most_age_s", "width"),
    [
        (20e6, 0.001, 24, 0.06, "1280"),
        (10e6, 0.1, 24, 0.2, "1280"),
        (20e6, 0.6, 4, 0.4, "1280"),  # by satellite: far, not slow
        (300e3, 0.05, 2.5, 0.5, "1280"),
        (120e3, 0.05, 2, 0.5, "640"),
        (40e3, 0.0, 2, 0.55, "320"),
        (40e3, 0.3, 1.2, 0.75, "320"),
        (10e3, 0.1, 0.5, 2.0, "320"),
    ],
)
def test_a_picture_is_hardly_older_than_its_own_way(
    bytes_s: float, round_trip_s: float, least_fps: float, most_age_s: float, width: str
) -> None:
    seen = simulate({0.0: Link(bytes_s, round_trip_s)}, {"cam": 1280}, 60)["cam"].after(20)
    assert len(seen.at_s) / 40 >= least_fps
    ages_s = sorted(seen.age_s)
    assert ages_s[int(len(ages_s) * 0.95)] <= most_age_s  # now and then wider pictures are tried
    assert max(set(seen.width), key=seen.width.count) == width


def test_a_link_that_gets_slow_is_noticed_and_one_that_gets_fast_as_well() -> None:
    links = {0.0: Link(20e6), 20.0: Link(40e3), 60.0: Link(20e6)}
    seen = simulate(links, {"cam": 1280}, 120)["cam"]
    assert set(seen.after(10).width[:100]) == {"1280"}
    meanwhile = [width for at_s, width in zip(seen.at_s, seen.width, strict=True) if 40 < at_s < 60]
    assert set(meanwhile) == {"320"}
    assert set(seen.after(100).width) == {"1280"}


def test_many_tiles_share_a_slow_link_and_the_large_picture_comes_most_often() -> None:
    streams = {"large": 1280, **{f"tile{i}": 320 for i in range(12)}}
    shown = simulate({0.0: Link(40e3)}, streams, 90)
    late = {stream: seen.after(30) for stream, seen in shown.items()}
    assert max(max(seen.age_s) for seen in late.values()) <= 0.6
    counts = [len(late[f"tile{i}"].at_s) for i in range(12)]
    assert min(counts) >= 1
    assert len(late["large"].at_s) >= 2 * max(counts)


def test_many_tiles_all_move_on_a_fast_link() -> None:
    streams = {f"tile{i}": 320 for i in range(12)}
    shown = simulate({0.0: Link(20e6, 0.02)}, streams, 20)
    assert all(len(seen.after(10).at_s) >= 24 * 10 for seen in shown.values())


def test_a_browser_that_confirms_nothing_gets_one_picture_and_no_more() -> None:
    pace = Pace()
    for now_s in range(100):
        if pace.next_of(["cam"], {"cam": 320}, now_s):
            pace.sent("cam", "320", now_s)
    assert pace.next_of(["cam"], {"cam": 320}, 100) is None
    assert pace.window == 1


def test_of_a_stream_that_is_not_confirmed_no_more_than_three_are_under_way() -> None:
    pace = Pace(window=100)
    while stream := pace.next_of(["stuck"], {"stuck": 320}, 1.0):
        pace.sent(stream, "320", 1.0)
    assert len(pace._under_way["stuck"]) == PER_STREAM
    assert pace.next_of(["stuck", "other"], {}, 1.0) == "other"


def test_what_nobody_sent_cannot_be_confirmed() -> None:
    pace = Pace()
    assert pace.confirmed("cam", 1.0) is False
    pace.sent("cam", "320", 1.0)
    assert pace.next_of(["cam"], {}, 1.0) is None
