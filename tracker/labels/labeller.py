"""Labelling beside tracking: a thread that looks at objects when they are new, and now and then after that."""

import logging
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
WAITING = 16  # looks; each holds on to its frame
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
    frame: Frame
    mask: ObjectMask
    texts: tuple[str, ...]


class Waiting:
    """Looks that wait for their turn, one per object. Putting never blocks: a new look takes the place of the same
    object's older one, and of the oldest of all where there is no more room."""

    def __init__(self, room: int = WAITING) -> None:
        self._room = room
        self._looks: OrderedDict[TrackedObject, LabelTask] = OrderedDict()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, look: LabelTask) -> None:
        with self._changed:
            self._looks.pop(look.object, None)
            self._looks[look.object] = look
            if len(self._looks) > self._room:
                self._looks.popitem(last=False)
            self._changed.notify()

    def take(self, most: int) -> list[LabelTask]:
        """The oldest ones, as soon as there are any; none: it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._looks or self._closed)
            count = 0 if self._closed else min(most, len(self._looks))
            return [self._looks.popitem(last=False)[1] for _ in range(count)]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()


class Labeller:
    """Guesses what the objects of `world` are. `tick` belongs to the engine thread; what CLIP says appears in
    the objects' `guess`. Without a model, or with one that cannot be loaded, nothing else is different."""

    def __init__(
        self, config: LabelsConfig, table: StreamTable, load: Callable[[LabelsConfig], LikelyTexts] = Clip.load
    ) -> None:
        self._config = config
        self._world = table
        self._load = load
        self._waiting = Waiting()
        self._on = config.model is not None
        self._thread = NamedThread(target=self._run, name="labels", daemon=True)

    def start(self) -> None:
        if self._on:
            self._thread.start()

    def stop(self) -> None:
        self._waiting.close()
        if self._thread.is_alive():
            self._thread.join(STOP_S)

    def tick(self) -> None:
        """Hand over the objects whose turn it is. Waits for nothing."""
        if not self._on:
            return
        now_s = time.monotonic()
        for tracked in self._world:
            texts = self._texts(tracked)
            for obj in tracked.objects.values() if texts else ():
                if now_s >= obj.guess_due_s and obj.mask.presence > 0:
                    self._offer(obj, texts, now_s)

    def _texts(self, tracked: TrackedStream) -> tuple[str, ...]:
        own = tracked.stream.config.labels
        return tuple(self._config.texts if own is None else own)

    def _offer(self, obj: TrackedObject, texts: tuple[str, ...], now_s: float) -> None:
        try:
            frame = obj.tracked.stream.buffer.get(obj.frame)
        except (FrameGone, NoFrame):
            return  # a later frame will do
        obj.guess_due_s = now_s + AGAIN_S
        self._waiting.put(LabelTask(obj, frame, obj.mask, texts))

    # -------------------------------------------------------------------------------------- the thread of its own

    def _run(self) -> None:
        try:
            clip = self._loaded()
        except Exception as error:
            self._on = False
            if isinstance(error, ModelError):
                log.error("labelling is off, tracking goes on: %s", error)
            else:
                log.exception("labelling is off, tracking goes on")
            return
        while looks := self._waiting.take(BATCH):
            for look in looks:
                look.object.guess_due_s = time.monotonic() + self._config.every_s
            try:
                self._label(clip, looks)
            except Exception:
                log.exception("%d objects were not labelled", len(looks))

    def _loaded(self) -> LikelyTexts:
        started_s = time.monotonic()
        log.info("labels: loading %s", self._config.model)
        clip = self._load(self._config)
        log.info("labels: %s is ready after %.1f s", self._config.model, time.monotonic() - started_s)
        return clip

    def _label(self, clip: LikelyTexts, looks: list[LabelTask]) -> None:
        """One batch of pictures through the model."""
        crops = [(look, crop) for look in looks if (crop := _crop(look, clip.side)) is not None]
        if not crops:
            return
        answers = clip.likely([crop for _, crop in crops], [look.texts for look, _ in crops])
        for (look, _), likely_t in zip(crops, answers, strict=True):
            look.object.guess = guess_of(look.texts, likely_t, self._config.min_confidence)


def guess_of(texts: tuple[str, ...], likely_t: F32, min_confidence: float) -> Guess:
    """The best text, or none where even that is less likely than `min_confidence`, and those that come next."""
    order = np.argsort(-likely_t, kind="stable")[: RUNNERS_UP + 1]
    ranked = [(texts[i], round(float(likely_t[i]), 4)) for i in order]
    (best, confidence), *others = ranked
    if confidence < min_confidence:
        return Guess(label=None, confidence=confidence, runners_up=ranked[:RUNNERS_UP])
    return Guess(label=best, confidence=confidence, runners_up=others)


def _crop(look: LabelTask, side: int) -> U8 | None:
    if look.object.removed:
        return None
    mask_hw = mask_of(look.mask.logits_hw, look.frame.size_wh)
    return masked_crop(imaging.to_rgb(look.frame.image), mask_hw, side)
