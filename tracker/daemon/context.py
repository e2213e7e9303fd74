"""State and helpers that the operations share."""

import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tracker.config import Config
from tracker.daemon.events import Events
from tracker.daemon.lifecycle import ObjectLifecycle
from tracker.daemon.looks.memory import LookMemory
from tracker.daemon.persistence import Persistence
from tracker.daemon.zones import Zones
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.memory import ObjectMemory
from tracker.errors import FrameGone
from tracker.images.types import Frame
from tracker.labels.labeller import Labeller
from tracker.masks.types import ObjectMask
from tracker.protocol.prompt import Prompt
from tracker.registry.similar import model_key
from tracker.registry.store import Store
from tracker.sockets.publisher import Publisher
from tracker.threads import Failures
from tracker.tracking.records import ShapeOptions
from tracker.tracking.state import StreamTable, TrackedStream

ENCODED_FRAMES = 4  # kept for further prompts on the same frame

FrameKey = tuple[str, int]  # stream and capture index, which never repeat


@dataclass(eq=False)
class Context:
    """The state that operations work on. It belongs to the main loop."""

    config: Config
    table: StreamTable
    engine: Engine
    publisher: Publisher
    objects: ObjectLifecycle
    events: Events
    persistence: Persistence
    labeller: Labeller
    failures: Failures
    zones: Zones = field(init=False)
    looks: LookMemory = field(init=False)
    described: Counter[str] = field(default_factory=Counter)  # questions to the describing server, by outcome
    started_ns: int = field(default_factory=time.monotonic_ns)
    _encoded: OrderedDict[FrameKey, Features] = field(default_factory=OrderedDict)
    _stepped: dict[FrameKey, Features] = field(default_factory=dict)  # of the last step's frames

    @classmethod
    def of(cls, config: Config, engine: Engine, store: Store | None, publisher: Publisher) -> "Context":
        """What is known at the start: what the store has kept, and no stream yet."""
        table, failures = StreamTable(), Failures()
        events = Events(publisher, store.record if store is not None else None, failures)
        persistence = Persistence(store, config, table, engine)
        objects = ObjectLifecycle(table, events, persistence)
        labeller = Labeller(config.labels, table, failures)
        return cls(config, table, engine, publisher, objects, events, persistence, labeller, failures)

    def __post_init__(self) -> None:
        store = self.persistence.store
        self.zones = Zones(self.events, store)
        model = model_key(self.engine.describe())
        self.looks = LookMemory(self.config.looks, model, self.events, store, self.labeller, self.failures)
        self.events.listeners["looks"] = self.looks.happened
        self.persistence.more = lambda: [*self.zones.rows(), *self.looks.watched.rows()]

    def reconfigure(self, config: Config) -> None:
        """From now on it is `config` that counts."""
        self.config = config
        self.persistence.reconfigure(config)

    @property
    def shape_options(self) -> ShapeOptions:
        """The parts of a mask's geometry that replies show."""
        publish = self.config.publish
        return ShapeOptions(publish.outline_tolerance_px, rle=publish.masks == "rle")

    def step_features(self, frames: Sequence[Frame]) -> Features:
        """A step's frames as the model sees them, encoded in one pass.

        They are kept until the next step: a prompt mostly is about the frame that was processed last. One that was
        prompted before its step is not encoded again.
        """
        if len(frames) == 1 and _key(frames[0]) in self._encoded:
            return self._encoded[_key(frames[0])]
        self._stepped = {}  # its memory is free before the next one is asked for
        features = self.engine.encode([frame.image for frame in frames])
        self._stepped = {_key(frame): features.of(i) for i, frame in enumerate(frames)}
        return features

    def features(self, frame: Frame) -> Features:
        """The frame as the model sees it; neither a second prompt on it nor its step costs a second encoding."""
        key = _key(frame)
        if key in self._stepped:
            return self._stepped[key]
        if key not in self._encoded:
            self._encoded[key] = self.engine.encode([frame.image])
        self._encoded.move_to_end(key)
        while len(self._encoded) > ENCODED_FRAMES:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def prompted(
        self, frame: Frame, prompt: Prompt, memory: ObjectMemory | None = None
    ) -> tuple[ObjectMemory, ObjectMask]:
        """An object's memory with marks on `frame`, and its mask there; without `memory` a new object's."""
        memory = memory or ObjectMemory()
        features = self.features(frame)
        return self.engine.prompt(memory, features, 0, frame.index, prompt, frame.size_wh)

    def propagated(self, frame: Frame, memory: ObjectMemory) -> tuple[ObjectMemory, ObjectMask]:
        """An object's memory led on to `frame`, and its mask there."""
        features = self.features(frame)
        (found,) = self.engine.propagate([(memory, 0, frame.index)], features)
        return found


def _key(frame: Frame) -> FrameKey:
    return frame.stream, frame.index


def frame_of(stream: TrackedStream, index: int | None, time_s: float | None = None) -> Frame:
    """The buffered frame that a request names; the newest if it names none. Raises NoFrame, FrameGone."""
    buffer = stream.source.buffer
    if index is not None:
        return buffer.get(index)
    return buffer.newest() if time_s is None else buffer.nearest(time_s)


def corrected_frame_of(stream: TrackedStream, index: int | None) -> Frame:
    """The same for a correction: if it names none, the newest whose masks were published: it is about those."""
    if index is None:
        with suppress(FrameGone):
            return stream.source.buffer.get(stream.processed)
    return frame_of(stream, index)
