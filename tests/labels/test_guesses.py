"""Objects are looked at in turn beside the engine, which never waits for that."""

import time
from typing import Any

import numpy as np
import pytest

from helpers.fakes import grey_frame
from helpers.labelling import Oracle, labels, stream_of
from helpers.tracking import wait_until
from tracker.config import LabelsConfig
from tracker.labels.labeller import Labeller, guess_of
from tracker.masks.types import ObjectMask
from tracker.threads import Failures
from tracker.tracking.state import StreamTable


@pytest.mark.parametrize(
    ("min_confidence", "label", "confidence", "runners_up"),
    [
        (0.5, "c", 0.6, [("a", 0.2), ("e", 0.1), ("b", 0.06)]),
        (0.7, None, 0.6, [("c", 0.6), ("a", 0.2), ("e", 0.1)]),
    ],
)
def test_guesses(min_confidence: float, label: str | None, confidence: float, runners_up: list[Any]) -> None:
    guess = guess_of(("a", "b", "c", "d", "e"), np.array([0.2, 0.06, 0.6, 0.04, 0.1], np.float32), min_confidence)
    assert (guess.label, guess.confidence, guess.runners_up) == (label, confidence, runners_up)


def test_a_guess_between_two() -> None:
    assert guess_of(("a", "b"), np.array([0.4, 0.6], np.float32), 0.5).runners_up == [("a", 0.4)]


class TestLabeller:
    def test_new_objects_at_once_all_in_one_batch_and_then_rarely(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        first = stream_of(table, 1)
        labeller.tick()
        wait_until(lambda: oracle.batches)
        second = stream_of(table, 3, name="two", labels=["van", "bus"])
        labeller.tick()
        oracle.gate.set()
        wait_until(lambda: labels(labeller, second) == ["bus"] * 3)
        assert labels(labeller, first) == ["dog"]
        for _ in range(3):
            labeller.tick()
        first.objects[1].guess_due_s = 0
        labeller.tick()
        wait_until(lambda: len(oracle.batches) == 3)
        assert oracle.batches == [[("cat", "dog")], [("van", "bus")] * 3, [("cat", "dog")]]

    def test_no_texts_no_guess(self, labeller: Labeller, oracle: Oracle, table: StreamTable) -> None:
        stream_of(table, 1, labels=[])
        seen = stream_of(table, 1, name="two")
        labeller.tick()
        wait_until(lambda: labels(labeller, seen) == ["dog"])
        assert oracle.batches == [[("cat", "dog")]]

    def test_what_is_lost_is_looked_at_when_it_is_back(self, labeller: Labeller, table: StreamTable) -> None:
        stream = stream_of(table, 2)
        lost = stream.objects[1]
        there, lost.mask = lost.mask, ObjectMask(lost.mask.logits_hw, 0.1, -5.0)
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == [None, "dog"])
        lost.mask = there
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog", "dog"])

    def test_the_engine_never_waits_and_what_waits_is_bounded_and_fresh(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        stream = stream_of(table, 40)
        labeller.tick()
        wait_until(lambda: oracle.batches)  # the thread is stuck in its first batch from here on
        for index in range(1, 5):
            stream.source.see(index)  # type: ignore[attr-defined]
            for obj in stream.objects.values():
                obj.frame, obj.guess_due_s = index, 0
            labeller.tick()
        waiting = list(labeller._waiting._objects.values())
        assert len(waiting) == 16
        assert {task.frame.index for task in waiting} == {4}
        assert len(oracle.batches) == 1
        oracle.gate.set()

        def all_guessed() -> bool:
            for obj in stream.objects.values():  # as after AGAIN_S
                obj.guess_due_s = 0 if not obj.guess else obj.guess_due_s
            labeller.tick()
            return labels(labeller, stream) == ["dog"] * 40

        wait_until(all_guessed)
        assert max(map(len, oracle.batches)) == 8

    def test_a_frame_that_is_gone_is_no_trouble(self, labeller: Labeller, table: StreamTable) -> None:
        stream = stream_of(table)
        stream.objects[1].frame = 7
        labeller.tick()
        stream.objects[1].frame = 0
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog"])

    def test_trouble_is_told_and_does_not_last(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        oracle.trouble = RuntimeError("out of memory")
        stream = stream_of(table)
        labeller.tick()
        wait_until(lambda: "labels failed" in caplog.text)
        assert "out of memory" in caplog.text
        oracle.trouble = None
        labeller.take_guesses()
        assert stream.objects[1].guess_due_s > time.monotonic() + 100  # not again and again: after `every_s`
        stream.objects[1].guess_due_s = 0
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog"])

    def test_a_guess_about_what_was_corrected_or_removed_since_is_dropped(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        stream = stream_of(table, 1)
        labeller.tick()
        wait_until(lambda: oracle.batches)
        other = stream_of(table, 3, name="two")
        gone, corrected = other.objects[1], other.objects[2]
        labeller.tick()
        other.remove(gone)
        corrected.corrected(grey_frame(0), corrected.memory, corrected.mask)
        oracle.gate.set()
        wait_until(lambda: labels(labeller, other) == [None, "dog"])
        labeller.tick()  # what was corrected is looked at again, at once
        wait_until(lambda: labels(labeller, other) == ["dog", "dog"])
        assert not gone.guess
        assert labels(labeller, stream) == ["dog"]

    def test_stopping_leaves_what_waits(self, oracle: Oracle, table: StreamTable) -> None:
        labeller = Labeller(LabelsConfig(model="x", texts=["cat", "dog"]), table, Failures(), load=lambda _: oracle)
        labeller.start()
        labeller.stop()
        assert not labeller._thread.is_alive()

    def test_off_it_has_no_thread(self, table: StreamTable) -> None:
        labeller = Labeller(LabelsConfig(), table, Failures())
        labeller.start()
        stream_of(table)
        labeller.tick()
        assert not labeller._thread.is_alive()
        labeller.stop()
