"""What waits for CLIP: the newest of each, within bounds, and first what somebody waits for."""

import numpy as np

from helpers.fakes import grey_frame
from helpers.labelling import stream_of
from tracker.labels.waiting import LabelTask, Taken, VectorTask, Waiting
from tracker.tracking.state import StreamTable


def test_waiting_keeps_the_newest_of_each_and_of_all() -> None:
    stream = stream_of(StreamTable(), 3)
    waiting = Waiting(objects=2)
    tasks = [
        LabelTask(stream.objects[i], 0, grey_frame(n), stream.objects[i].mask, ())
        for n, i in enumerate([1, 2, 1, 3])
    ]
    for task in tasks:
        waiting.put(task)
    assert waiting.take(8).objects == tasks[2:]
    waiting.put(tasks[0])
    waiting.close()
    assert not waiting.take(8)


def test_what_has_time_waits_while_clip_rests() -> None:
    stream = stream_of(StreamTable(), 2)
    new, again = (
        LabelTask(stream.objects[i], 0, grey_frame(0), stream.objects[i].mask, (), has_time=i == 2) for i in (1, 2)
    )
    text, look = (VectorTask(what, lambda _: None) for what in ("a dog", np.zeros((8, 8, 3), np.uint8)))
    waiting = Waiting()
    waiting.rest(3600)
    assert waiting.put_look("dog", look)
    waiting.put(again)
    waiting.put(new)
    assert waiting.put_vector(text)
    assert waiting.take(8) == Taken([text], [], [new])
    assert waiting.close() == [look]
    waiting = Waiting()
    waiting.rest(0.02)
    waiting.put(again)
    assert waiting.take(8) == Taken([], [], [again])  # once it has rested


def test_of_an_objects_looks_the_newest_waits_in_the_place_of_the_first() -> None:
    told: list[str] = []

    def task(name: str) -> VectorTask:
        return VectorTask(np.zeros((8, 8, 3), np.uint8), lambda _: told.append(name))

    waiting = Waiting(looks=2)
    first, other, newer = task("first"), task("other"), task("newer")
    assert [waiting.put_look("a", first), waiting.put_look("b", other), waiting.put_look("a", newer)] == [True] * 3
    assert told == ["first"]  # that nobody will make it
    assert not waiting.put_look("c", task("no room"))
    assert waiting.take(1).looks == [newer]
    assert waiting.take(1).looks == [other]
