"""How many pictures may be under way to one browser, and how wide they may be: as its confirmations tell.

A picture's way is the time from sending it to its confirmation, less the round trip of a message without weight:
what its own bytes, those before it, and drawing took. What waits in the network's buffers makes all that follows it
late, so that more is sent at once only while ways stay short.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from tracker.protocol.fields import PICTURE_WIDTHS

PER_STREAM = 3  # pictures; one is drawn, one is on its way, one makes up for unsteady networks
MOST = 256  # of all streams together
LATE_S = 0.2  # of a picture's way: from here on, fewer at once
SLOW_S = 0.4  # of a picture that was alone on its way: from here on, narrower ones
VERY_SLOW_S = 1.2  # one is enough; else it takes two in a row
TIMES = 3.0  # as many bytes has a picture of the next width
CALM_S = 5.0  # in which wider pictures would have been in time, before they are tried;
MOST_CALM_S = 60.0  # twice as long after each time in vain, up to this

NAMES = list(PICTURE_WIDTHS)
FULL = len(NAMES) - 1


@dataclass(frozen=True, slots=True)
class _Sent:
    at_s: float
    place: int  # of its width among NAMES
    alone: bool


@dataclass(slots=True)
class Pace:
    """Times are of any one clock that does not go back. Knows nothing of sockets."""

    round_trip_s: float = 0.0  # as the browser measured it
    window: int = 1  # pictures under way, of all streams together
    _under_way: dict[str, list[_Sent]] = field(default_factory=dict)
    _last_s: dict[str, float] = field(default_factory=dict)  # when a picture of the stream was sent
    _widest: int = FULL
    _slow: int = 0  # pictures in a row
    _calm_since_s: float | None = None
    _calm_s: float = CALM_S
    _widened: bool = False  # by the last change

    def next_of(self, waiting: Iterable[str], widths: dict[str, int], now_s: float) -> str | None:
        """The stream whose picture may be sent: the one that waited longest, where wide ones count for more."""
        if self._count >= self.window:
            return None
        ready = [stream for stream in waiting if len(self._under_way.get(stream, ())) < PER_STREAM]
        urgency = {s: (now_s - self._last_s.get(s, 0.0)) * widths.get(s, 1) for s in ready}
        return max(ready, key=lambda stream: urgency[stream], default=None)

    def bounded(self, width: int) -> int:
        """The width that a picture may have, where so many pixels are looked at."""
        widest = PICTURE_WIDTHS[NAMES[self._widest]]
        return width if widest is None else min(width, widest)

    def sent(self, stream: str, width: str, now_s: float) -> None:
        sent = _Sent(now_s, NAMES.index(width), alone=self._count == 0)
        self._under_way.setdefault(stream, []).append(sent)
        self._last_s[stream] = now_s

    def confirmed(self, stream: str, now_s: float) -> bool:
        """The oldest picture of a stream was taken in; one that nobody sent is passed over.

        Returns whether pictures may be of another width from now on.
        """
        under_way = self._under_way.get(stream)
        if not under_way:
            return False
        count, widest = self._count, self._widest
        sent = under_way.pop(0)
        if not under_way:
            del self._under_way[stream]
        way_s = max(0.0, now_s - sent.at_s - self.round_trip_s)
        self._adapt_window(way_s, count)
        self._adapt_width(way_s, sent, now_s)
        return self._widest != widest

    def forget(self, streams: Iterable[str]) -> None:
        """Streams that are looked at no more."""
        for stream in streams:
            self._last_s.pop(stream, None)

    @property
    def _count(self) -> int:
        return sum(map(len, self._under_way.values()))

    def _adapt_window(self, way_s: float, count: int) -> None:
        if way_s > LATE_S:
            self.window = max(1, min(self.window, count) // 2)
        elif way_s * (count + 1) / count <= LATE_S:
            self.window = min(MOST, max(self.window, count + 1))

    def _adapt_width(self, way_s: float, sent: _Sent, now_s: float) -> None:
        """Narrower where a picture was slow by itself, wider where wider ones would be in time."""
        if way_s > SLOW_S and sent.alone:
            self._slow += 2 if way_s > VERY_SLOW_S else 1
            if self._slow >= 2 and 0 < sent.place <= self._widest:
                self._narrow(way_s, sent.place)
            return
        if sent.alone:
            self._slow = 0
        if sent.place == self._widest < FULL:
            self._widen_when_calm(way_s, now_s)

    def _narrow(self, way_s: float, place: int) -> None:
        if self._widened:
            self._calm_s = min(2 * self._calm_s, MOST_CALM_S)
        while way_s > SLOW_S and place > 0:
            place -= 1
            way_s /= TIMES
        self._widest, self._widened, self._slow, self._calm_since_s = place, False, 0, None

    def _widen_when_calm(self, way_s: float, now_s: float) -> None:
        if way_s * TIMES > SLOW_S:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= self._calm_s:
            if self._widened:
                self._calm_s = CALM_S
            self._widest, self._widened, self._calm_since_s = self._widest + 1, True, None
