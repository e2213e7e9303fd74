"""Zones and lines: what is counted, what is not, and when it is told."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from benches import zones as scenes
from tracker.config import ZoneConfig
from tracker.images.types import I420, Frame
from tracker.masks.geometry import shape_of_mask
from tracker.masks.regions import region_problem
from tracker.masks.types import Shape
from tracker.tracking.zone import SeenObject, ZoneChange
from tracker.tracking.zones import StreamZones

SIZE_WH = (100, 80)
ROOM = ZoneConfig(polygon=[(40, 0), (80, 0), (80, 80), (40, 80)])
GATE = ZoneConfig(line=((50, 80), (50, 20)))  # upwards, and not all the way up: its left is the picture's left
LOST = None


def frame(t: int, epoch: int = 0, time_s: float | None = None) -> Frame:
    """Ten a second."""
    grey_hw = np.zeros((1, 1), np.uint8)
    seconds = t / 10 if time_s is None else time_s
    return Frame("cam", t, epoch, t / 10, seconds, t, None, I420(grey_hw, grey_hw, grey_hw))


def square(x: float, y: float = 50, side: int = 10) -> Shape:
    mask_hw = np.zeros((SIZE_WH[1], SIZE_WH[0]), np.bool_)
    left, top = round(x - side / 2), round(y - side / 2)
    mask_hw[max(top, 0) : top + side, max(left, 0) : left + side] = True
    return shape_of_mask(mask_hw, tolerance_px=1.0)


def seen(x: float | None, y: float = 50, *, label: str | None = None, revision: int = 0, **more: Any) -> SeenObject:
    shape = Shape(SIZE_WH) if x is None else square(x, y, **more)
    return SeenObject(1, revision, (label, None), shape)


def told(config: ZoneConfig, way: Iterable[float | tuple[float, float] | None]) -> list[ZoneChange]:
    """Of one object on frames 0, 1, …, at these x, or (x, y)."""
    zones, changes = StreamZones({"z": config}), []
    for t, place in enumerate(way):
        one = seen(*place) if isinstance(place, tuple) else seen(place)
        changes += zones.observe(frame(t), [one], {1})
    return changes


def in_short(changes: list[ZoneChange]) -> list[Any]:
    return [(change.name, change.frame, change.direction or change.dwell_s) for change in changes]


class TestPolygons:
    def test_who_comes_and_goes_is_told_with_the_frame_and_the_time_inside(self) -> None:
        changes = told(ROOM, [20, 30, 50, 55, 60, 70, 90, 95, 95])
        assert in_short(changes) == [("zone_entered", 2, None), ("zone_left", 6, pytest.approx(0.4))]

    def test_who_is_inside_at_first_has_entered(self) -> None:
        assert in_short(told(ROOM, [60, 60])) == [("zone_entered", 0, None)]

    @pytest.mark.parametrize(
        ("way", "why"),
        [
            ([60, 60, 90, 60, 60], "a mask that jumps out for a frame"),
            ([20, 60, 20, 20], "a mask that jumps in for a frame"),
            ([39, 39, 41, 41, 39, 39, 38, 38, 41, 41], "an edge that trembles"),
            ([60, 60, LOST, LOST, 60, 60], "an object that was lost inside, and is found there"),
        ],
    )
    def test_flicker_is_not_counted(self, way: list[float | None], why: str) -> None:
        names = [change.name for change in told(ROOM, way)]
        assert names in ([], ["zone_entered"]), why

    def test_lost_inside_and_found_outside_has_left_when_it_was_seen_last(self) -> None:
        changes = told(ROOM, [60, 60, 60, LOST, LOST, LOST, 20, 20])
        assert in_short(changes)[1:] == [("zone_left", 6, pytest.approx(0.2))]

    def test_who_is_removed_has_left(self) -> None:
        zones = StreamZones({"z": ROOM})
        for t in range(3):
            zones.observe(frame(t), [seen(60)], {1})
        (change,) = zones.observe(frame(3), [], set())
        assert in_short([change]) == [("zone_left", 3, pytest.approx(0.3))]
        assert zones.counts()["z"].inside == []

    def test_the_share_of_the_mask_decides(self) -> None:
        for share, expected in ((0.2, ["zone_entered"]), (0.9, [])):
            config = ZoneConfig(polygon=ROOM.polygon, share=share)
            assert [change.name for change in told(config, [38] * 5)] == expected

    def test_the_foot_decides_where_that_is_wanted(self) -> None:
        floor = ZoneConfig(polygon=[(0, 60), (100, 60), (100, 80), (0, 80)], at="foot")
        zones = StreamZones({"foot": floor, "mask": ZoneConfig(polygon=floor.polygon)})
        changes = [c for t in range(3) for c in zones.observe(frame(t), [seen(50, 53, side=30)], {1})]
        assert [(change.zone, change.name) for change in changes] == [("foot", "zone_entered")]

    def test_loitering_is_told_once(self) -> None:
        config = ZoneConfig(polygon=ROOM.polygon, loiter_s=0.5)
        changes = told(config, [60] * 12)
        assert in_short(changes) == [("zone_entered", 0, None), ("loitering", 5, pytest.approx(0.5))]

    def test_fractions_are_of_the_picture(self) -> None:
        config = ZoneConfig(polygon=[(0.4, 0), (0.8, 0), (0.8, 1), (0.4, 1)], unit="fraction")
        assert in_short(told(config, [20, 60, 60])) == in_short(told(ROOM, [20, 60, 60]))

    @pytest.mark.parametrize(("label", "expected"), [("fork", 1), ("person", 0), (None, 0)])
    def test_only_who_is_wanted_counts(self, label: str | None, expected: int) -> None:
        zones = StreamZones({"z": ZoneConfig(polygon=ROOM.polygon, labels=["fork"])})
        for t in range(3):
            zones.observe(frame(t), [seen(60, label=label)], {1})
        assert zones.counts()["z"].entered == expected

    def test_what_is_too_small_is_not_looked_at(self) -> None:
        assert told(ZoneConfig(polygon=ROOM.polygon, min_area=101), [60] * 3) == []

    def test_dwell_goes_by_the_sources_own_time(self) -> None:
        """A file is followed faster than it was filmed."""
        zones = StreamZones({"z": ROOM})
        places = [60] * 10 + [20] * 2
        changes = [
            c for t, x in enumerate(places) for c in zones.observe(frame(t, time_s=0.001 * t), [seen(x)], {1})
        ]
        assert changes[1].dwell_s == pytest.approx(1.0)


class TestLines:
    @pytest.mark.parametrize(
        ("way", "expected"),
        [
            ([20, 40, 60, 80], [("line_crossed", 2, "to_right")]),
            ([80, 60, 40, 20], [("line_crossed", 2, "to_left")]),
            ([20, 80, 80, 20, 20], [("line_crossed", 1, "to_right"), ("line_crossed", 3, "to_left")]),
            ([20, 49, 50, 51, 50, 49, 50, 51, 50], []),
            ([20, 60, 20, 20], []),
            ([20, LOST, LOST, 80, 80], [("line_crossed", 3, "to_right")]),
            ([20, 20, LOST, 20, 20], []),
            ([50, 50, 80, 80], []),
        ],
        ids=[
            "right",
            "left",
            "there and back",
            "trembles on it",
            "jumps for a frame",
            "crosses while lost",
            "lost",
            "begins on it",
        ],
    )
    def test_crossings(self, way: list[float | None], expected: list[tuple[Any, ...]]) -> None:
        assert in_short(told(GATE, way)) == expected

    def test_who_goes_past_its_end_has_not_crossed_it(self) -> None:
        assert told(GATE, [(20, 10), (40, 10), (60, 10), (80, 10)]) == []

    def test_a_reconnect_counts_nobody_twice(self) -> None:
        zones = StreamZones({"gate": GATE, "room": ROOM})
        places = [20, 60, 60, 60]
        changes = [c for t, x in enumerate(places) for c in zones.observe(frame(t), [seen(x)], {1})]
        changes += [c for t in range(9, 13) for c in zones.observe(frame(t, epoch=1), [seen(60)], {1})]
        assert sorted(change.name for change in changes) == ["line_crossed", "zone_entered"]

    def test_a_film_that_begins_anew_carries_nobody_over_the_line(self) -> None:
        zones = StreamZones({"gate": GATE})
        places = [(0, 20), (0, 60), (0, 60), (1, 20), (1, 20)]
        changes = [
            c
            for t, (epoch, x) in enumerate(places)
            for c in zones.observe(frame(t, epoch), [seen(x)], {1}, loops=True)
        ]
        assert [change.direction for change in changes] == ["to_right"]

    def test_a_correction_carries_nobody_over_the_line(self) -> None:
        zones = StreamZones({"gate": GATE})
        changes = [
            c
            for t, (revision, x) in enumerate([(0, 20), (0, 20), (1, 80), (1, 80)])
            for c in zones.observe(frame(t), [seen(x, revision=revision)], {1})
        ]
        assert changes == []


def test_it_goes_on_from_what_was_saved() -> None:
    zones = StreamZones({"gate": GATE, "room": ROOM})
    for t, x in enumerate([20, 60, 60]):
        zones.observe(frame(t), [seen(x)], {1})
    again = StreamZones({"gate": GATE, "room": ROOM}, zones.states())
    assert again.counts() == zones.counts()
    changes = [c for t in range(7, 10) for c in again.observe(frame(t, epoch=1), [seen(60)], {1})]
    assert changes == []
    (left,) = [
        c for t in range(10, 12) for c in again.observe(frame(t, epoch=1), [seen(20)], {1}) if c.zone == "room"
    ]
    assert left.dwell_s == pytest.approx(0.9, abs=0.11)


def test_on_true_masks_of_rendered_scenes_everything_is_counted_right() -> None:
    for seed in range(20):
        _, walkers = scenes.scene(seed)
        truth = [+walker.crossings() for walker in walkers]
        assert [+counts for counts in scenes.counted(scenes.true_shapes(walkers))] == truth
        assert sum(map(len, truth)) > 2


@pytest.mark.parametrize(
    ("vertices", "problem"),
    [
        ([(0, 0), (10, 0), (10, 10)], None),
        ([(0, 0), (10, 0), (20, 0)], "one line"),
        ([(0, 0), (10, 10), (10, 0), (0, 20)], "cross or touch"),
    ],
)
def test_polygons_without_a_clear_inside_are_refused(
    vertices: list[tuple[float, float]], problem: str | None
) -> None:
    found = region_problem(vertices)
    assert found is None if problem is None else problem in str(found)
