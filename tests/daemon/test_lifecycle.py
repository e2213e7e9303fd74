"""Objects' lives without sockets: a correction counts more than whatever was found out about earlier frames."""

from typing import Any, cast

import cv2
import numpy as np
import pytest

from helpers.fakes import BlobEngine, FakeStream
from tracker.config import Config
from tracker.daemon.context import Context
from tracker.daemon.delivery import Delivery, ProcessedFrame
from tracker.daemon.operations.objects import ObjectOperations
from tracker.engine.engine import Engine
from tracker.images.types import I420, Frame
from tracker.protocol.messages import Event
from tracker.protocol.object_requests import ObjectsAdd, ObjectsRefine
from tracker.sockets.publisher import Publisher
from tracker.tracking.records import ObjectSnapshot
from tracker.tracking.state import Sighting, TrackedObject, TrackedStream

CENTRE = (28, 26)


class EventLog:
    """Where the publisher would be."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int | None]] = []

    def wanted(self, _: str) -> bool:
        return False

    def publish(self, _: str, message: Any) -> None:
        if isinstance(message, Event):
            self.events.append((message.event, message.frame))


def picture(index: int, *, there: bool) -> Frame:
    y_hw = np.full((48, 64), 60, np.uint8)
    if there:
        cv2.rectangle(y_hw, (20, 20), (35, 31), 235, -1)
    grey_hw = np.full((24, 32), 128, np.uint8)
    return Frame("cam", index, 0, index / 10, index / 10, index * 10**8, None, I420(y_hw, grey_hw, grey_hw))


class House:
    """One stream whose object is away on frame 1 of 0 to 3, and the parts that know of it; delivery's thread is
    started where a test wants it to catch up."""

    def __init__(self) -> None:
        self.log = EventLog()
        self.engine = BlobEngine()
        self.stream = TrackedStream(FakeStream())  # type: ignore[arg-type]
        for index in range(4):
            self.stream.source.buffer.put(picture(index, there=index != 1))
        publisher, engine = cast(Publisher, self.log), cast(Engine, self.engine)
        context = Context.of(Config(), engine, None, publisher)
        self.table, self.objects = context.table, context.objects
        self.table.add(self.stream)
        context.zones.attach(self.stream.source)
        self.operations = ObjectOperations(context)
        self.delivery = Delivery(context, lambda: None)
        self.stream.processed = 0
        self.operations.objects_add(ObjectsAdd(stream="cam", points=[CENTRE], frame=0, expire_s=0.0001))
        self.obj = self.stream.objects[1]

    def follow(self, index: int) -> Frame:
        frame = self.stream.source.buffer.get(index)
        ((memory, mask),) = self.engine.propagate([(self.obj.memory, 0, index)], self.engine.encode([frame.image]))
        self.obj.followed(frame, memory, mask)
        return frame

    def process(self, index: int) -> None:
        """A step of the main loop."""
        frame = self.follow(index)
        self.stream.processed = index
        self.delivery.put(ProcessedFrame(frame, index, 0, None, (ObjectSnapshot.of(self.obj),)))

    def catch_up(self, index: int) -> None:
        """To the live edge, which is there."""
        self.follow(index)
        self.objects.settle(self.stream)

    def refine(self, index: int) -> None:
        self.operations.objects_refine(ObjectsRefine(stream="cam", object=1, points=[CENTRE], frame=index))

    def take_results(self) -> None:
        for sighting in self.delivery.take_sightings():
            self.objects.sight(sighting)

    def deliver(self) -> None:
        self.delivery.start()
        self.delivery.stop()
        self.take_results()


@pytest.fixture
def house() -> House:
    return House()


def sighted(obj: TrackedObject, frame: int, visible: bool) -> Sighting:
    return Sighting(obj, obj.revision, frame, visible)


def test_lost_and_found_are_told_once_and_in_order(house: House) -> None:
    for index in (1, 2, 3):
        house.process(index)
    house.deliver()
    assert house.log.events == [("object_added", 0), ("object_lost", 1), ("object_found", 2)]
    assert house.obj.visible


def test_a_frame_that_waits_in_delivery_undoes_no_correction(house: House) -> None:
    house.process(1)
    house.refine(2)
    house.deliver()
    assert house.obj.visible
    assert house.obj.lost_since_ns is None
    assert house.log.events == [("object_added", 0), ("object_refined", 2)]


def test_what_was_lost_is_found_by_a_correction_and_does_not_expire(house: House) -> None:
    house.objects.sight(sighted(house.obj, 1, visible=False))
    house.process(1)
    house.refine(2)
    house.deliver()
    house.objects.expire()
    assert house.log.events == [("object_added", 0), ("object_lost", 1), ("object_refined", 2), ("object_found", 2)]


def test_what_comes_after_a_correction_counts(house: House) -> None:
    house.refine(0)
    house.process(1)
    house.deliver()
    assert house.log.events[-1] == ("object_lost", 1)
    assert not house.obj.visible


@pytest.mark.parametrize(("edge", "visible", "told"), [(1, False, [("object_lost", 1)]), (2, True, [])])
def test_what_catches_up_with_a_film_that_has_ended_is_lost_or_not(
    house: House, edge: int, visible: bool, told: list[tuple[str, int]]
) -> None:
    """No later frame says so."""
    house.stream.processed = edge
    house.refine(0)
    house.catch_up(edge)
    assert house.log.events[2:3] == [("object_caught_up", edge)]
    assert house.log.events[3:4] == told
    assert house.obj.visible == visible


def test_nothing_is_told_of_what_was_removed(house: House) -> None:
    house.process(1)
    house.objects.remove(house.obj)
    house.deliver()
    assert house.obj.removed
    assert house.log.events == [("object_added", 0), ("object_removed", 0 + 1)]


def test_what_is_lost_expires_once(house: House) -> None:
    house.objects.sight(sighted(house.obj, 1, visible=False))
    house.obj.lost_since_ns = 1
    for _ in range(2):
        house.objects.expire()
    assert house.log.events[-1] == ("object_expired", 0)
    assert [name for name, _ in house.log.events].count("object_expired") == 1


def test_a_snapshot_is_not_changed_by_what_comes_later(house: House) -> None:
    house.process(2)
    seen = ObjectSnapshot.of(house.obj)
    house.obj.label, house.obj.meta, house.obj.age = "later", {"a": 1}, 7
    assert (seen.label, seen.meta, seen.age) == (None, {}, 0)
