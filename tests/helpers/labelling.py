"""Objects to be labelled, and who labels them without a model."""

import threading
from typing import Any

import numpy as np

from helpers.fakes import FakeStream
from tracker.config import StreamConfig
from tracker.engine.memory import ObjectMemory
from tracker.labels.labeller import Labeller
from tracker.masks.types import ObjectMask
from tracker.tracking.state import StreamTable, TrackedObject, TrackedStream

PATIENCE_S = 30.0


def stream_of(
    table: StreamTable, objects: int = 1, labels: list[str] | None = None, name: str = "cam"
) -> TrackedStream:
    source = FakeStream(name, StreamConfig(url="x", labels=labels))
    source.see(0)
    stream = TrackedStream(source)  # type: ignore[arg-type]
    table.add(stream)
    for number in range(1, objects + 1):
        mask = ObjectMask(np.full((16, 16), 5, np.float32), 0.9, 5.0)
        stream.add(TrackedObject(number, stream, ObjectMemory(), mask, 0, (64, 48)))
    return stream


class Oracle:
    """Stands in for `Clip`: the last text it is. `gate` keeps it from answering."""

    side = 8
    key = "k" * 64

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, ...]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.trouble: Exception | None = None

    def likely(self, crops: list[Any], texts: list[tuple[str, ...]]) -> list[Any]:
        assert all(crop.shape == (8, 8, 3) for crop in crops)
        self.batches.append(texts)
        assert self.gate.wait(PATIENCE_S)
        if self.trouble is not None:
            raise self.trouble
        return [np.eye(len(t), dtype=np.float32)[-1] for t in texts]

    def picture_vectors(self, crops: list[Any]) -> Any:
        return self.vectors([crop.mean() for crop in crops])

    def text_vectors(self, texts: list[str]) -> Any:
        return self.vectors([len(text) for text in texts])

    def vectors(self, values: list[Any]) -> Any:
        assert self.gate.wait(PATIENCE_S)
        if self.trouble is not None:
            raise self.trouble
        return np.array([[value, 1] for value in values], np.float32)


def labels(labeller: Labeller, stream: TrackedStream) -> list[str | None]:
    labeller.take_guesses()
    return [obj.guess.label if obj.guess else None for obj in stream.objects.values()]
