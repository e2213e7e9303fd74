"""Labelling beside tracking: a thread that looks at objects when they are new, and now and then after that."""

import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tracker.config import LabelsConfig
from tracker.engine.clip import Clip
from tracker.errors import FrameGone, ModelError, NoFrame
from tracker.images import imaging
from tracker.labels.crops import masked_crop
from tracker.masks.geometry import mask_of
from tracker.protocol.replies import Guess
from tracker.threads import NamedThread
from tracker.tracking.state import StreamTable, TrackedObject, TrackedStream
from tracker.types import F32, U8, Frame, ObjectMask

log = logging.getLogger(__name__)

BATCH = 8
WAITING = 16  # tasks; each holds on to its frame
AGAIN_S = 1.0  # what still waits is replaced by how the object looks now
RUNNERS_UP = 3
STOP_S = 1.0  # a thread that still loads a model dies with the process


class LikelyTexts(Protocol):
    """What is wanted of `Clip`."""

    side: int

    def likely(self, crops: list[U8], texts: list[tuple[str, ...]], /) -> list[F32]: ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelTask:
    """An object as it was on one frame, and what it may be."""

    object: TrackedObject
    revision: int
    frame: Frame
    mask: ObjectMask
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class LabelResult:
    """What became of a task; no guess: it was taken up."""

    task: LabelTask
    guess: Guess | None = None


class Waiting:
    """Tasks that wait for their turn, one per object. Putting never blocks: a new task takes the place of the same
    object's older one, and of the oldest of all where there is no more room."""

    def __init__(self, room: int = WAITING) -> None:
        self._room = room
        self._tasks: OrderedDict[TrackedObject, LabelTask] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, task: LabelTask) -> None:
        with self._changed:
            self._tasks.pop(task.object, None)
            self._tasks[task.object] = task
            if len(self._tasks) > self._room:
                self._tasks.popitem(last=False)
            self._changed.notify()

    def take(self, most: int) -> list[LabelTask]:
        """The oldest ones, as soon as there are any; none: it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._tasks or self._closed)
            count = 0 if self._closed else min(most, len(self._tasks))
            return [self._tasks.popitem(last=False)[1] for _ in range(count)]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


class Labeller:
    """Guesses what the objects of `table` are.

    `tick` and `take_guesses` belong to the main loop, which alone writes to objects. Without a model, or with one
    that cannot be loaded, nothing else is different.
    """

    def __init__(
        self, config: LabelsConfig, table: StreamTable, load: Callable[[LabelsConfig], LikelyTexts] = Clip.load
    ) -> None:
        self._config = config
        self._table = table
        self._load = load
        self._waiting = Waiting()
        # Two for each task, of which the main loop hands over no more before it has taken these.
        self._results: queue.SimpleQueue[LabelResult] = queue.SimpleQueue()
        self._thread = NamedThread(target=self._run, name="labels", daemon=True)

    def start(self) -> None:
        if self._config.model is not None:
            self._thread.start()

    def stop(self) -> None:
        self._waiting.close()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def tick(self) -> None:
        """Hand over the objects whose turn it is. Waits for nothing."""
        if not self._thread.is_alive():
            return
        now_s = time.monotonic()
        for stream in self._table:
            texts = self._texts(stream)
            for obj in stream.objects.values() if texts else ():
                if now_s >= obj.guess_due_s and obj.mask.presence > 0:
                    self._offer(obj, texts, now_s)

    def take_guesses(self) -> None:
        """Write what was found out into the objects, unless they were corrected or removed since."""
        while not self._results.empty():
            result = self._results.get()
            obj = result.task.object
            if obj.is_outdated(result.task.revision):
                continue
            if result.guess is None:
                obj.guess_due_s = time.monotonic() + self._config.every_s
            else:
                obj.guess = result.guess

    def _texts(self, stream: TrackedStream) -> tuple[str, ...]:
        own = stream.source.config.labels
        return tuple(self._config.texts if own is None else own)

    def _offer(self, obj: TrackedObject, texts: tuple[str, ...], now_s: float) -> None:
        try:
            frame = obj.stream.source.buffer.get(obj.frame)
        except (FrameGone, NoFrame):
            return  # a later frame will do
        obj.guess_due_s = now_s + AGAIN_S
        self._waiting.put(LabelTask(obj, obj.revision, frame, obj.mask, texts))

    # -------------------------------------------------------------------------------------- the thread of its own

    def _run(self) -> None:
        try:
            clip = self._loaded()
        except Exception as error:
            if isinstance(error, ModelError):
                log.error("labelling is off, tracking goes on: %s", error)
            else:
                log.exception("labelling is off, tracking goes on")
            return
        while tasks := self._waiting.take(BATCH):
            for task in tasks:
                self._results.put(LabelResult(task))
            try:
                self._label(clip, tasks)
            except Exception:
                log.exception("%d objects were not labelled", len(tasks))

    def _loaded(self) -> LikelyTexts:
        started_s = time.monotonic()
        log.info("labels: loading %s", self._config.model)
        clip = self._load(self._config)
        log.info("labels: %s is ready after %.1f s", self._config.model, time.monotonic() - started_s)
        return clip

    def _label(self, clip: LikelyTexts, tasks: list[LabelTask]) -> None:
        """One batch of pictures through the model."""
        crops = [(task, crop) for task in tasks if (crop := _crop(task, clip.side)) is not None]
        if not crops:
            return
        answers = clip.likely([crop for _, crop in crops], [task.texts for task, _ in crops])
        for (task, _), likely_t in zip(crops, answers, strict=True):
            guess = guess_of(task.texts, likely_t, self._config.min_confidence)
            self._results.put(LabelResult(task, guess))


def guess_of(texts: tuple[str, ...], likely_t: F32, min_confidence: float) -> Guess:
    """The best text, or none where even that is less likely than `min_confidence`, and those that come next."""
    order = np.argsort(-likely_t, kind="stable")[: RUNNERS_UP + 1]
    ranked = [(texts[i], round(float(likely_t[i]), 4)) for i in order]
    (best, confidence), *others = ranked
    if confidence < min_confidence:
        return Guess(label=None, confidence=confidence, runners_up=ranked[:RUNNERS_UP])
    return Guess(label=best, confidence=confidence, runners_up=others)


def _crop(task: LabelTask, side: int) -> U8 | None:
    mask_hw = mask_of(task.mask.logits_hw, task.frame.size_wh)
    return masked_crop(imaging.to_rgb(task.frame.image), mask_hw, side)
