"""One zone and who is where: decisions from shares and places, plain Python.

Of a polygon the share is what lies inside, of a line what lies on its left. A change counts once CONFIRM frames in
a row show it and the share is well past the threshold, so that neither a trembling edge nor a mask that jumps away
for a frame is counted. While an object is lost nothing changes; where it is found decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from msgspec import Struct, structs

from tracker.masks.regions import Figure, Reading, Region, Xy
from tracker.masks.types import Shape
from tracker.protocol.records import ZoneCounts

if TYPE_CHECKING:
    from tracker.config import ZoneConfig

CONFIRM = 2  # frames in a row
STAY = 0.6  # of the share that lets an object in: it has left below that
BAND = 0.1  # of an object: so much more than half of it is on the other side of a line

Happening = Literal["zone_entered", "zone_left", "line_crossed", "loitering"]
Direction = Literal["to_left", "to_right"]


class Visit(Struct, frozen=True):
    """An object inside a polygon; seconds of the stream's clock."""

    since_s: float
    seen_s: float  # last inside
    loitered: bool = False


class Side(Struct, frozen=True):
    """An object's place when it was last well on one side of a line."""

    left: bool
    at_xy: Xy


class ZoneState(Struct, frozen=True):
    """All that a zone knows, to go on with after a restart."""

    entered: int = 0
    left: int = 0
    to_left: int = 0
    to_right: int = 0
    visits: dict[int, Visit] = {}
    sides: dict[int, Side] = {}


class Moment(NamedTuple):
    frame: int
    time_s: float  # of the stream's clock
    before_s: float  # when the frame before it was


@dataclass(frozen=True, slots=True)
class SeenObject:
    """An object on a frame, as zones need it."""

    id: int
    revision: int
    names: tuple[str | None, ...]  # label, and what it is taken for
    shape: Shape  # with its outline; empty: it is lost


@dataclass(frozen=True, slots=True)
class ZoneChange:
    """`frame` is the first one that showed it."""

    zone: str
    name: Happening
    object: int
    frame: int
    dwell_s: float | None = None
    direction: Direction | None = None


class Zone:
    """One zone, and who is where. `_doubts` are changes that one frame has shown so far."""

    def __init__(self, name: str, config: ZoneConfig, state: ZoneState) -> None:
        self.name = name
        self.config = config
        self.state = state
        self._visits, self._sides = dict(state.visits), dict(state.sides)
        self._doubts: dict[int, tuple[int, Moment, Reading]] = {}
        self._region: Region | None = None
        self._size_wh: tuple[int, int] | None = None

    def counts(self) -> ZoneCounts:
        state = self.state
        if self.config.line is not None:
            return ZoneCounts(to_left=state.to_left, to_right=state.to_right)
        return ZoneCounts(entered=state.entered, left=state.left, inside=sorted(self._visits))

    def frozen(self) -> ZoneState:
        self.state = structs.replace(self.state, visits=dict(self._visits), sides=dict(self._sides))
        return self.state

    def see(self, seen: SeenObject, figure: Figure, moment: Moment) -> Iterator[ZoneChange]:
        if not self._counts(seen):
            yield from self.forget(seen.id, moment)
            return
        if seen.shape.area < self.config.min_area:
            return
        reading = self._region_for(seen.shape.size_wh).read(figure)
        see = self._see_polygon if self.config.line is None else self._see_line
        yield from see(seen.id, reading, moment)

    def forget(self, object_id: int, moment: Moment) -> Iterator[ZoneChange]:
        """It is tracked no longer, or is none of those that count."""
        self.forget_side(object_id)
        visit = self._visits.pop(object_id, None)
        if visit is not None:
            yield self._leave(object_id, visit, moment)

    def forget_side(self, object_id: int) -> None:
        """Forget its side, which says nothing about where it went: its picture was cut, or its mask corrected."""
        self._sides.pop(object_id, None)
        self._doubts.pop(object_id, None)

    def known(self) -> set[int]:
        return {*self._visits, *self._sides}

    def _counts(self, seen: SeenObject) -> bool:
        return self.config.labels is None or any(name in self.config.labels for name in seen.names)

    def _region_for(self, size_wh: tuple[int, int]) -> Region:
        if self._region is None or self._size_wh != size_wh:
            self._region, self._size_wh = Region(vertices_px(self.config, size_wh), size_wh), size_wh
        return self._region

    def _see_polygon(self, object_id: int, reading: Reading, moment: Moment) -> Iterator[ZoneChange]:
        visit = self._visits.get(object_id)
        wanted = min(self.config.share, 0.999) * (1.0 if visit is None else STAY)
        is_inside = reading.share >= wanted
        if is_inside == (visit is not None):
            self._doubts.pop(object_id, None)
            if visit is not None:
                yield from self._stay(object_id, visit, moment)
        elif (first := self._confirmed(object_id, moment, reading)) is not None:
            since, _ = first
            if visit is None:
                self._visits[object_id] = Visit(since.time_s, moment.time_s)
                self.state = structs.replace(self.state, entered=self.state.entered + 1)
                yield ZoneChange(self.name, "zone_entered", object_id, since.frame)
            else:
                del self._visits[object_id]
                yield self._leave(object_id, visit, since)

    def _stay(self, object_id: int, visit: Visit, moment: Moment) -> Iterator[ZoneChange]:
        loiter_s, dwell_s = self.config.loiter_s, moment.time_s - visit.since_s
        loiters = loiter_s is not None and not visit.loitered and dwell_s >= loiter_s
        self._visits[object_id] = Visit(visit.since_s, moment.time_s, visit.loitered or loiters)
        if loiters:
            yield ZoneChange(self.name, "loitering", object_id, moment.frame, dwell_s=dwell_s)

    def _leave(self, object_id: int, visit: Visit, moment: Moment) -> ZoneChange:
        """It was inside until `moment`; where it was lost before, until it was seen there last."""
        until_s = moment.time_s if visit.seen_s >= moment.before_s else visit.seen_s
        self.state = structs.replace(self.state, left=self.state.left + 1)
        return ZoneChange(
            self.name, "zone_left", object_id, moment.frame, dwell_s=max(0.0, until_s - visit.since_s)
        )

    def _see_line(self, object_id: int, reading: Reading, moment: Moment) -> Iterator[ZoneChange]:
        if abs(reading.share - 0.5) < BAND:
            self._doubts.pop(object_id, None)
            return
        is_left, side = reading.share > 0.5, self._sides.get(object_id)
        if side is None or side.left == is_left:
            self._doubts.pop(object_id, None)
            self._sides[object_id] = Side(is_left, reading.at_xy)
        elif (first := self._confirmed(object_id, moment, reading)) is not None:
            since, where = first
            self._sides[object_id] = Side(is_left, reading.at_xy)
            assert self._region is not None
            if self._region.is_met_by(side.at_xy, where.at_xy):
                yield self._cross(object_id, "to_left" if is_left else "to_right", since)

    def _cross(self, object_id: int, direction: Direction, moment: Moment) -> ZoneChange:
        count = getattr(self.state, direction) + 1
        self.state = structs.replace(self.state, **{direction: count})
        return ZoneChange(self.name, "line_crossed", object_id, moment.frame, direction=direction)

    def _confirmed(self, object_id: int, moment: Moment, reading: Reading) -> tuple[Moment, Reading] | None:
        """The first frame that showed the change, once enough have."""
        count, since, where = self._doubts.get(object_id, (0, moment, reading))
        self._doubts[object_id] = count + 1, since, where
        if count + 1 < CONFIRM:
            return None
        del self._doubts[object_id]
        return since, where


def vertices_px(config: ZoneConfig, size_wh: tuple[int, int]) -> list[Xy]:
    """In pixels of a picture of this size."""
    if config.unit == "pixels":
        return config.vertices
    width, height = size_wh
    return [(x * width, y * height) for x, y in config.vertices]
