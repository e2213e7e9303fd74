"""Which frame comes next: all of it without a model."""

import math
from typing import Any

import numpy as np
import pytest

from helpers.fakes import FakeStream
from tracker.config import StreamConfig
from tracker.engine.memory import ObjectMemory
from tracker.masks.types import ObjectMask
from tracker.tracking.scheduler import ScheduledFrame, Scheduler, frames_behind, live_work
from tracker.tracking.state import TrackedObject, TrackedStream

NOTHING = ObjectMask(np.zeros((1, 1), np.float32), 0.0, 0.0)


def stream_of(name: str = "cam", seen: int = 0, processed: int = -1, **config: Any) -> TrackedStream:
    stream = TrackedStream(FakeStream(name, StreamConfig(url="/dev/null", **config)), processed=processed)  # type: ignore[arg-type]
    stream.source.see(*range(seen))  # type: ignore[attr-defined]
    return stream


def an_object(stream: TrackedStream, frame: int, *, pending: bool = False) -> TrackedObject:
    obj = TrackedObject(stream.claim_id(None), stream, ObjectMemory(), NOTHING, frame, (64, 48), pending=pending)
    stream.add(obj)
    return obj


def frames_of(batch: list[ScheduledFrame]) -> list[tuple[str, int]]:
    return [(work.stream.name, work.frame.index) for work in batch]


def step(scheduler: Scheduler, streams: list[TrackedStream], seconds: float = 0.01) -> list[ScheduledFrame]:
    """One turn of the main loop."""
    batch = scheduler.next_batch(streams)
    for work in batch:
        for obj in work.objects:
            obj.frame = work.frame.index
        if work.live:
            work.stream.processed = work.frame.index
        for obj in work.stream.pending():
            if not frames_behind(obj):
                obj.arrived()
    if batch:
        scheduler.spent(batch, seconds)
    return batch


class TestLive:
    @pytest.mark.parametrize(
        ("config", "processed", "expected"),
        [
            ({}, -1, 9),  # a camera: the newest wins
            ({}, 8, 9),
            ({}, 9, None),  # nothing new
            ({"pace": "all"}, -1, 0),  # a file: the next one
            ({"pace": "all"}, 4, 5),
            ({"pace": "all"}, 9, None),
        ],
    )
    def test_which_frame_is_next(self, config: dict[str, str], processed: int, expected: int | None) -> None:
        work = live_work(stream_of(seen=10, processed=processed, **config))
        assert (work and work.frame.index) == expected

    def test_corrupt_frames_are_passed_over(self) -> None:
        stream = stream_of(seen=3)
        stream.source.see(3, 4, corrupt=True)  # type: ignore[attr-defined]
        work = live_work(stream)
        assert work is not None
        assert work.frame.index == 2

    def test_objects_at_the_live_edge_go_along(self) -> None:
        stream = stream_of(seen=10, processed=5)
        edge, behind, ahead = an_object(stream, 5), an_object(stream, 2, pending=True), an_object(stream, 9)
        work = live_work(stream)
        assert work is not None
        assert work.objects == (edge,)
        assert behind not in work.objects  # it comes by another way
        assert ahead not in work.objects  # its prompt was on this very frame

    def test_a_file_waits_for_objects_that_are_behind(self) -> None:
        stream = stream_of(seen=10, processed=5, pace="all")
        an_object(stream, 2, pending=True)
        assert live_work(stream) is None


class TestStreams:
    def test_all_streams_share_a_batch_on_a_gpu(self) -> None:
        streams = [stream_of(name, seen=3) for name in "abc"]
        assert frames_of(Scheduler(0.5, None).next_batch(streams)) == [("a", 2), ("b", 2), ("c", 2)]

    @pytest.mark.parametrize(("priority", "share"), [(0, 10), (1, 20), (3, 40)])
    def test_streams_take_turns_by_priority(self, priority: int, share: int) -> None:
        first, second = stream_of("a", priority=priority), stream_of("b")
        scheduler, served = Scheduler(0.5, 1), []
        for index in range(share + 10):
            for stream in (first, second):
                stream.source.see(index)  # type: ignore[attr-defined]
            served += [name for name, _ in frames_of(step(scheduler, [first, second]))]
        assert served.count("a") == pytest.approx(share, abs=1)

    def test_a_stream_that_was_silent_saves_up_no_turns(self) -> None:
        busy, silent = stream_of("a"), stream_of("b")
        scheduler = Scheduler(0.5, 1)
        for index in range(50):
            busy.source.see(index)  # type: ignore[attr-defined]
            step(scheduler, [busy, silent])
        served = []
        for index in range(50, 60):
            busy.source.see(index)  # type: ignore[attr-defined]
            silent.source.see(index)  # type: ignore[attr-defined]
            served += [name for name, _ in frames_of(step(scheduler, [busy, silent]))]
        assert served.count("a") >= 4

    def test_for_want_of_memory_fewer_share_a_step_for_a_while(self, monkeypatch):
        streams = [stream_of(name, seen=3) for name in "abcde"]
        scheduler = Scheduler(0.5, None)
        monkeypatch.setattr("tracker.tracking.scheduler.NARROW_S", math.inf)
        scheduler.narrow(2)
        served = [[work.stream.name for work in step(scheduler, streams)] for _ in range(3)]
        assert served == [["a", "b"], ["c", "d"], ["e"]]
        monkeypatch.setattr("tracker.tracking.scheduler.NARROW_S", 0.0)
        scheduler.narrow(2)
        for stream in streams:
            stream.source.see(3)
        assert len(scheduler.next_batch(streams)) == 5


class TestCatchUp:
    def test_idle_time_goes_to_who_is_behind(self) -> None:
        stream = stream_of(seen=20, processed=19)
        obj = an_object(stream, 5, pending=True)
        scheduler = Scheduler(0.5, None)
        while obj.pending:
            (work,) = step(scheduler, [stream])
            assert not work.live
        assert obj.frame == 19

    @pytest.mark.parametrize("fraction", [0.2, 0.5, 0.8])
    def test_under_full_load_it_takes_its_fraction(self, fraction: float) -> None:
        stream = stream_of(seen=200, processed=199)
        stream.source.fps = 1000.0  # type: ignore[misc]
        an_object(stream, 199)
        scheduler, spent = Scheduler(fraction, None), {True: 0.0, False: 0.0}
        for index in range(200, 300):  # a new frame at every step: the live stream alone would take all the time
            stream.source.see(index)  # type: ignore[attr-defined]
            if not stream.pending():
                an_object(stream, 0, pending=True)
            (work,) = step(scheduler, [stream])
            spent[work.live] += 0.01
        assert spent[False] / (spent[True] + spent[False]) == pytest.approx(fraction, abs=0.05)

    @pytest.mark.parametrize("behind", [1, 10, 30, 100, 300])
    @pytest.mark.parametrize("step_s", [0.001, 0.03, 0.1, 0.5])
    def test_it_always_arrives(self, behind: int, step_s: float) -> None:
        """Frames come at 15 per second of the steps' own time, however long a step takes."""
        stream = stream_of(seen=400, processed=399)
        stream.source.fps = 15.0  # type: ignore[misc]
        obj = an_object(stream, 399 - behind, pending=True)
        an_object(stream, 399)
        scheduler, clock_s, newest = Scheduler(0.5, None), 0.0, 399
        while obj.pending:
            clock_s += step_s if step(scheduler, [stream], step_s) else 1 / 15
            fresh = range(newest + 1, 400 + int(clock_s * 15))
            stream.source.see(*fresh)  # type: ignore[attr-defined]
            newest = max([newest, *fresh])
            assert clock_s < 4 + 12 * step_s

    def test_a_file_is_caught_up_frame_by_frame(self) -> None:
        stream = stream_of(seen=100, processed=99, pace="all")
        stream.source.fps = 1000.0  # type: ignore[misc]
        obj = an_object(stream, 89, pending=True)
        scheduler, seen = Scheduler(0.5, None), []
        while obj.pending:
            seen += frames_of(step(scheduler, [stream], 1.0))
        assert seen == [("cam", i) for i in range(90, 100)]

    def test_who_is_equally_far_goes_together(self) -> None:
        stream = stream_of(seen=20, processed=19)
        twins = an_object(stream, 5, pending=True), an_object(stream, 5, pending=True)
        an_object(stream, 9, pending=True)
        (work,) = Scheduler(0.5, None).next_batch([stream])
        assert work.objects == twins

    def test_frames_that_are_gone_are_jumped_over(self) -> None:
        stream = stream_of(seen=1, processed=50)
        stream.source.see(*range(1, 51))  # type: ignore[attr-defined]
        for index in range(40):
            del stream.source.buffer._frames[index]
        stream.source.buffer._oldest = 40
        obj = an_object(stream, 5, pending=True)
        assert [f.index for f in frames_behind(obj)] == list(range(40, 51))
