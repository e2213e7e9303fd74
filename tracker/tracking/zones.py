"""All zones of a stream: what happens at them, frame by frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import UNSET

from tracker.masks.regions import Figure
from tracker.protocol.records import ZoneCounts
from tracker.tracking.zone import Moment, SeenObject, Zone, ZoneChange, ZoneState

if TYPE_CHECKING:
    from tracker.config import ZoneConfig
    from tracker.images.types import Frame

MAX_PTS_GAP_S = 60.0  # a longer one between two frames is the source's mistake


class StreamClock:
    """Seconds that go on over breaks: by the source's own time where it has one, else by the wall clock."""

    def __init__(self) -> None:
        self._last: Frame | None = None
        self._now_s = 0.0

    def tick(self, frame: Frame) -> Moment:
        last, before_s = self._last, self._now_s
        self._last = frame
        if last is None:
            self._now_s = before_s = frame.time
        else:
            self._now_s += _seconds_between(last, frame)
        return Moment(frame.index, self._now_s, before_s)


def _seconds_between(last: Frame, frame: Frame) -> float:
    if last.epoch == frame.epoch and last.pts is not None and frame.pts is not None:
        gap_s = frame.pts - last.pts
        if 0 <= gap_s <= MAX_PTS_GAP_S:
            return gap_s
    return max(0.0, frame.time - last.time)


class StreamZones:
    """All zones of one stream."""

    def __init__(self, zones: Mapping[str, ZoneConfig], states: Mapping[str, ZoneState] | None = None) -> None:
        states = states or {}
        self._zones = {name: Zone(name, zone, states.get(name, ZoneState())) for name, zone in zones.items()}
        self._clock = StreamClock()
        self._revisions: dict[int, int] = {}
        self._epoch: int | None = None

    def __bool__(self) -> bool:
        return bool(self._zones)

    @property
    def configs(self) -> dict[str, ZoneConfig]:
        return {name: zone.config for name, zone in self._zones.items()}

    def put(self, name: str, config: ZoneConfig) -> None:
        """A zone of that name counts from nothing again."""
        self._zones[name] = Zone(name, config, ZoneState())

    def remove(self, name: str) -> None:
        del self._zones[name]

    def counts(self) -> dict[str, ZoneCounts]:
        return {name: zone.counts() for name, zone in self._zones.items()}

    def states(self) -> dict[str, ZoneState]:
        return {name: zone.frozen() for name, zone in self._zones.items()}

    def observe(
        self, frame: Frame, seen: Sequence[SeenObject], tracked: set[int], *, loops: bool = False
    ) -> list[ZoneChange]:
        """The changes on a frame. `tracked` are the ids of all objects of the stream, also those that are not
        `seen` on it; with `loops` a new epoch begins the film anew, and nobody has crossed anything by that."""
        moment = self._clock.tick(frame)
        changes = [change for zone in self._zones.values() for change in self._gone(zone, tracked, moment)]
        cut = loops and self._epoch not in (None, frame.epoch)
        self._epoch = frame.epoch
        for one in seen:
            corrected = self._revisions.get(one.id, one.revision) != one.revision
            self._revisions[one.id] = one.revision
            if cut or corrected:
                for zone in self._zones.values():
                    zone.forget_side(one.id)
            changes += self._see(one, moment)
        self._revisions = {i: revision for i, revision in self._revisions.items() if i in tracked}
        return changes

    def _gone(self, zone: Zone, tracked: set[int], moment: Moment) -> Iterator[ZoneChange]:
        for object_id in zone.known() - tracked:
            yield from zone.forget(object_id, moment)

    def _see(self, seen: SeenObject, moment: Moment) -> Iterator[ZoneChange]:
        figures: dict[str, Figure | None] = {}
        for zone in self._zones.values():
            at = zone.config.at
            if at not in figures:
                figures[at] = Figure.of_mask(seen.shape) if at == "mask" else Figure.of_foot(seen.shape)
            figure = figures[at]
            if figure is not None:
                yield from zone.see(seen, figure, moment)


def count_text(counts: ZoneCounts) -> str:
    """For people, beside the zone's name."""
    if counts.inside is UNSET:
        return f"left {counts.to_left}, right {counts.to_right}"
    return f"{len(counts.inside)} inside, {counts.entered} entered"
