"""Asks what objects are, in threads of its own: when they are stable, when they are lost, or when somebody asks.

A server that is down, slow or answers rubbish costs a line, a figure and a growing pause; tracking never waits.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from tracker.config import DescribeConfig
from tracker.errors import AtCapacity, TrackerError, Unavailable
from tracker.images import imaging
from tracker.images.types import Frame
from tracker.labels.crops import masked_crop
from tracker.labels.provider import Provider
from tracker.masks.geometry import mask_of
from tracker.masks.types import U8, Bool, ObjectMask
from tracker.protocol.records import Description
from tracker.threads import NamedThread

if TYPE_CHECKING:
    from tracker.tracking.state import TrackedObject

log = logging.getLogger(__name__)

WAITING = 16  # questions; each holds on to a few frames
SIDE_PX = 336  # of a picture that is sent
SURROUNDINGS = 0.5  # of the box, on each side
STABLE_FRAMES = 30  # an object is followed for so long before it is described
BACK_OFF_S = (5.0, 300.0)  # after the first failure, at most
STOP_S = 1.0
HOUR_S = 3600.0


class Asking(Protocol):
    """Whatever can answer a question about pictures."""

    def ask(self, question: str, jpegs: list[bytes], /) -> str: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """What to ask about an object, and some moments of it, the newest last."""

    object: TrackedObject
    revision: int
    text: str
    moments: list[tuple[Frame, ObjectMask]]
    reply: Callable[[Description], None] | None = None  # of whoever asked
    fail: Callable[[TrackerError], None] | None = None


class Describer:
    """`offer` and `take_answers` belong to the main loop."""

    def __init__(
        self,
        config: DescribeConfig,
        wake: Callable[[], object],
        counts: Counter[str],
        load: Callable[[DescribeConfig], Asking] = Provider,
    ) -> None:
        self._config = config
        self._wake = wake
        self._load = load
        self._counts = counts  # of answers, failures and questions that were refused
        self._questions: queue.Queue[Question | None] = queue.Queue(WAITING)
        self._answers: queue.SimpleQueue[tuple[Question, Description]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of the next four
        self._asked_s: deque[float] = deque()  # in the last hour
        self._failures = 0
        self._paused_s = 0.0  # when the pause began that ends at:
        self._not_before_s = 0.0
        self._threads = [
            NamedThread(target=self._run, name=f"describe-{k}", daemon=True) for k in range(config.in_flight)
        ]

    @property
    def on(self) -> bool:
        return self._config.url is not None

    def wants(self, what: str) -> bool:
        return self.on and what in self._config.when

    def start(self) -> None:
        if self.on:
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        if not self.on:
            return
        for _ in self._threads:
            with contextlib.suppress(queue.Full):
                self._questions.put_nowait(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_S)

    def question(self, label: str | None) -> str:
        return self._config.per_label.get(label or "", self._config.prompt)

    def offer(self, question: Question) -> None:
        """Ask, when it comes to it. Raises Unavailable and AtCapacity."""
        if not self.on:
            raise Unavailable("nothing describes objects: describe.url is not set in the configuration")
        with self._lock:
            now_s = time.monotonic()
            while self._asked_s and now_s - self._asked_s[0] > HOUR_S:
                self._asked_s.popleft()
            if now_s < self._not_before_s:
                self._counts["refused"] += 1
                wait_s = self._not_before_s - now_s
                raise Unavailable(f"the describing server failed; it is asked again in {wait_s:.0f} s")
            if len(self._asked_s) >= self._config.per_hour:
                self._counts["refused"] += 1
                raise AtCapacity(f"{self._config.per_hour} questions were asked within an hour (describe.per_hour)")
            try:
                self._questions.put_nowait(question)
            except queue.Full:
                self._counts["refused"] += 1
                raise AtCapacity(f"{WAITING} questions wait already; ask again later") from None
            self._asked_s.append(now_s)

    def take_answers(self) -> list[tuple[Question, Description]]:
        """What was found out since the last call."""
        found = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    # ---------------------------------------------------------------------------------------------- its own threads

    def _run(self) -> None:
        try:
            provider = self._load(self._config)
        except TrackerError as error:
            log.error("objects are not described: %s", error.message)
            provider = None
        except Exception:
            log.exception("objects are not described")
            provider = None
        while (question := self._questions.get()) is not None:
            try:
                self._answer(provider, question)
            except Exception:  # one answer's trouble must not silence all others
                log.exception("an answer could not be told")
                self._counts["failed"] += 1
        if provider is not None:
            provider.close()

    def _answer(self, provider: Asking | None, question: Question) -> None:
        begun_s = time.monotonic()
        try:
            if provider is None:
                raise Unavailable("nothing describes objects; the daemon's log says why")
            if begun_s < self._not_before_s:  # it waited while one before it failed
                raise Unavailable("the describing server failed; ask again later")
            jpegs = pictures_of(question.moments, self._config.max_images)
        except Exception as error:  # noqa: BLE001 - the server is not to blame: the next question has its turn
            self._tell(question, _known(error))
            return
        try:
            text = provider.ask(question.text, jpegs)
        except Exception as error:  # noqa: BLE001 - whatever it is
            self._failed(question, _known(error), begun_s)
            return
        with self._lock:
            self._failures, self._not_before_s = 0, 0.0
            self._counts["answered"] += 1
        description = Description(text=text, model=self._config.model or "", time=time.time())
        self._answers.put((question, description))
        if question.reply is not None:
            question.reply(description)
        self._wake()

    def _failed(self, question: Question, error: TrackerError, begun_s: float) -> None:
        """The pause doubles once for all that were asked before it began."""
        first_s, most_s = BACK_OFF_S
        with self._lock:
            if begun_s >= self._paused_s:
                self._paused_s = time.monotonic()
                self._not_before_s = self._paused_s + min(most_s, first_s * 2 ** min(self._failures, 16))
                self._failures += 1
            pause_s = max(0.0, self._not_before_s - time.monotonic())
        log.warning("object %d was not described: %s; again in %.0f s", question.object.id, error.message, pause_s)
        self._tell(question, error)

    def _tell(self, question: Question, error: TrackerError) -> None:
        with self._lock:
            self._counts["failed"] += 1
        if question.fail is not None:
            question.fail(error)


def _known(error: Exception) -> TrackerError:
    return error if isinstance(error, TrackerError) else Unavailable(f"it failed: {type(error).__name__}")


def pictures_of(moments: list[tuple[Frame, ObjectMask]], most: int) -> list[bytes]:
    """JPEGs, two of a moment: the object among its surroundings, and with all around it blurred. The newest moments
    have precedence."""
    jpegs: list[bytes] = []
    for frame, mask in reversed(moments):
        rgb_hwc = imaging.to_rgb(frame.image)
        mask_hw = mask_of(mask.logits_hw, frame.size_wh)
        cut_hwc = masked_crop(rgb_hwc, mask_hw, SIDE_PX)
        if cut_hwc is not None:
            jpegs += [imaging.encode_jpeg(_among(rgb_hwc, mask_hw)), imaging.encode_jpeg(cut_hwc)]
    if not jpegs:
        raise Unavailable("the object cannot be seen on any frame that is left")
    return jpegs[:most]


def _among(rgb_hwc: U8, mask_hw: Bool) -> U8:
    """The object's box with its surroundings, at most SIDE_PX on its longer side."""
    height, width = mask_hw.shape
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    more_x, more_y = round(SURROUNDINGS * w), round(SURROUNDINGS * h)
    top, bottom = max(0, y - more_y), min(height, y + h + more_y)
    left, right = max(0, x - more_x), min(width, x + w + more_x)
    part = np.ascontiguousarray(rgb_hwc[top:bottom, left:right])
    return imaging.scaled(part, max(1, round(SIDE_PX * part.shape[1] / max(part.shape[:2]))))
