"""Labelling beside tracking: a thread that looks at objects when they are new, and now and then after that.

It takes turns with rests, so that what has time costs tracking next to nothing; what somebody waits for is done at
once.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from tracker.config import LabelsConfig
from tracker.engine.clip import Clip
from tracker.errors import FrameGone, ModelError, NoFrame
from tracker.images import imaging
from tracker.labels.crops import masked_crop
from tracker.labels.waiting import LabelTask, Taken, Vector, VectorTask, Waiting
from tracker.masks.geometry import mask_of
from tracker.masks.types import F32, U8
from tracker.protocol.records import Guess
from tracker.threads import Failures, NamedThread

if TYPE_CHECKING:
    from tracker.tracking.state import StreamTable, TrackedObject, TrackedStream

log = logging.getLogger(__name__)

BATCH = 8
SHARE = 0.01  # of a core's time, for what has time: looks, and objects that were guessed at before
MOST_REST_S = 60.0  # after many new objects at once
NICE = 10  # of the thread, where threads have priorities: tracking goes first
AGAIN_S = 1.0  # what still waits is replaced by how the object looks now
RUNNERS_UP = 3
STOP_S = 1.0  # a thread that still loads a model dies with the process


State = Literal["off", "loading", "ready", "failed"]  # of CLIP


class LikelyTexts(Protocol):
    """What is wanted of `Clip`."""

    side: int

    @property
    def key(self) -> str: ...

    def likely(self, crops: list[U8], texts: list[tuple[str, ...]], /) -> list[F32]: ...

    def picture_vectors(self, crops: list[U8], /) -> F32: ...

    def text_vectors(self, texts: list[str], /) -> F32: ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelResult:
    """What became of a task; no guess: it was taken up."""

    task: LabelTask
    guess: Guess | None = None


class Labeller:
    """Guesses what the objects of `table` are, and makes vectors of crops and texts for others.

    `tick` and `take_guesses` belong to the main loop, which alone writes to objects; `embed` to any thread.
    Without a model, or with one that cannot be loaded, nothing else is different.
    """

    def __init__(
        self,
        config: LabelsConfig,
        table: StreamTable,
        failures: Failures,
        load: Callable[[LabelsConfig], LikelyTexts] = Clip.load,
    ) -> None:
        self._config = config
        self._table = table
        self._failures = failures
        self._load = load
        self.state: State = "off" if config.model is None else "loading"
        self._waiting = Waiting()
        # Two for each task, of which the main loop hands over no more before it has taken these.
        self._results: queue.SimpleQueue[LabelResult] = queue.SimpleQueue()
        self._thread = NamedThread(target=self._run, name="labels", daemon=True)

    def start(self) -> None:
        if self._config.model is not None:
            self._thread.start()

    def stop(self) -> None:
        self._give_up()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def embed(self, text: str, then: Callable[[Vector | None], None]) -> bool:
        """Have a vector made of a text, at once. Returns whether there is room for it; only then `then` is called,
        in CLIP's thread, with None where it could not be made."""
        return self._waiting.put_vector(VectorTask(text, then))

    def embed_look(self, key: Hashable, crop_hwc: U8, then: Callable[[Vector | None], None]) -> bool:
        """The same of an object's look, uint8 [side, side, 3], when there is time; a newer look of the same key
        takes its place until then."""
        return self._waiting.put_look(key, VectorTask(crop_hwc, then))

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
        has_time = isinstance(obj.guess, Guess)
        self._waiting.put(LabelTask(obj, obj.revision, frame, obj.mask, texts, has_time))

    # -------------------------------------------------------------------------------------- the thread of its own

    def _run(self) -> None:
        _go_last()
        try:
            clip = self._loaded()
            self.state = "ready"
            while taken := self._waiting.take(BATCH):
                self._answer(clip, taken)
        except ModelError as error:
            log.error("labelling is off, tracking goes on: %s", error)
            self.state = "failed"
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody waits for it in vain
            self._failures.add("labels", error)
            log.error("labelling is off, tracking goes on")
            self.state = "failed"
        self._give_up()

    def _answer(self, clip: LikelyTexts, taken: Taken) -> None:
        """What somebody waits for first; then a rest that makes up for what pictures took."""
        self._embed(clip, taken.texts)
        began_s = time.thread_time()
        for task in taken.objects:
            self._results.put(LabelResult(task))
        with self._failures.spared("labels"):
            self._label(clip, taken.objects)
        self._embed(clip, taken.looks)
        if taken.objects or taken.looks:
            self._waiting.rest(min((time.thread_time() - began_s) / SHARE, MOST_REST_S))

    def _give_up(self) -> None:
        for task in self._waiting.close():
            task.then(None)

    def _embed(self, clip: LikelyTexts, tasks: list[VectorTask]) -> None:
        """Vectors of crops, or of texts, in one batch."""
        if not tasks:
            return
        texts = [task.what for task in tasks if isinstance(task.what, str)]
        crops = [task.what for task in tasks if not isinstance(task.what, str)]
        try:
            vectors_nc = clip.text_vectors(texts) if texts else clip.picture_vectors(crops)
        except Exception as error:  # noqa: BLE001 - those who wait are told
            self._failures.add("labels", error)
            for task in tasks:
                task.then(None)
            return
        for task, vector_c in zip(tasks, vectors_nc, strict=True):
            task.then(Vector(clip.key, vector_c))

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


def _go_last() -> None:
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


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
