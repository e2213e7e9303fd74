"""Fakes for the edges: a stream that is filled by hand, and an engine that follows bright blobs, not a model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch
from msgspec import UNSET, UnsetType

from tracker.config import StreamConfig
from tracker.engine.cost import StepCost
from tracker.engine.memory import CONDITIONING, FrameMemory, MemoryLayout, ObjectMemory, TensorKind
from tracker.images import imaging
from tracker.images.types import I420, Frame, Image
from tracker.masks.types import ObjectMask
from tracker.protocol.prompt import Prompt
from tracker.streams.buffer import RollingBuffer

SIDE = 64  # of the fake engine's logits


def grey_frame(index: int, size_wh: tuple[int, int] = (64, 48), *, corrupt: bool = False, fps: float = 10) -> Frame:
    """A frame of a stream of `fps` that started at time 0."""
    w, h = size_wh
    grey_hw = np.full((h // 2, w // 2), 128, np.uint8)
    image = I420(np.full((h, w), 90, np.uint8), grey_hw, grey_hw)
    seconds = index / fps
    return Frame("cam", index, 0, seconds, seconds, round(seconds * 1e9), None, image, corrupt)


@dataclass
class FakeStream:
    """A stream without a source: `see(frame)` is what decoding does."""

    name: str = "cam"
    config: StreamConfig = field(default_factory=lambda: StreamConfig(url="/dev/null"))
    fps: float = 10.0
    epoch: int = 0
    decoded: int = 0
    owner: str | UnsetType = UNSET
    buffer: RollingBuffer = field(default_factory=lambda: RollingBuffer(1000, 2**30))

    def go_on_from(self, decoded: int, epoch: int) -> None:
        self.decoded, self.epoch = decoded, epoch

    def see(self, *indices: int, corrupt: bool = False) -> None:
        for index in indices:
            self.buffer.put(grey_frame(index, corrupt=corrupt))


class Blobs(list[np.ndarray]):
    """What `BlobEngine` takes for features: where each picture is bright, bool [SIDE, SIDE]."""

    def of(self, i: int) -> "Blobs":
        return Blobs([self[i]])


class BlobEngine:
    """Stands in for `Engine`: an object is the bright blob that was prompted, then the one nearest to where it was.

    Its tracks are real ones with small tensors in them; a blob that is gone gives presence -5 and an empty mask.
    """

    streams_per_batch = None

    def __init__(self, history_frames: int = 32, conditioning_frames: int = CONDITIONING) -> None:
        self.cost = StepCost()
        self.conditioning_frames = conditioning_frames
        self.history_frames = history_frames
        self.encoded: list[int] = []  # images of each call

    def describe(self) -> dict[str, Any]:
        return {"name": "blobs", "image_size": 4 * SIDE, "device": "cpu", "dtype": "uint8", "sha256": None}

    def memory_layout(self) -> MemoryLayout:
        return MemoryLayout(
            memory_tm=TensorKind((1, 1), "float32", 4),
            pointer_c=TensorKind((2,), "float64", 8),
            logits_hw=TensorKind((SIDE, SIDE), "float32", 4),
        )

    def memory(self) -> dict[str, Any]:
        return {"device": "cpu", "used_bytes": 1, "total_bytes": 2}

    def encode(self, images: Sequence[Image]) -> Blobs:
        self.encoded.append(len(images))
        return Blobs(cv2.resize(imaging.to_rgb(image)[..., 0], (SIDE, SIDE)) > 150 for image in images)

    def look(self, features: Blobs, i: int, inside_hw: np.ndarray) -> np.ndarray:
        """All alike: what tells them apart in tests are their colours."""
        assert len(features) > i
        return np.ones(8, np.float32) * inside_hw.any()

    def prompt(
        self,
        track: ObjectMemory,
        features: Blobs,
        i: int,
        frame: int,
        prompt: Prompt,
        size_wh: tuple[int, int],
    ) -> tuple[ObjectMemory, ObjectMask]:
        if prompt.box_xyxy is not None:
            x, y = prompt.box_xyxy.reshape(2, 2).mean(0)
        else:
            x, y = prompt.points_xy[prompt.labels_n == 1][0]
        entry = _entry(
            features[i], (x * SIDE / size_wh[0], y * SIDE / size_wh[1]), frame, track.step_for(frame), 3.0
        )
        return track.with_prompt(entry, self.conditioning_frames), _mask(entry)

    def propagate(
        self, items: Sequence[tuple[ObjectMemory, int, int]], features: Blobs
    ) -> list[tuple[ObjectMemory, ObjectMask]]:
        return [self._followed(track, features[i], frame) for track, i, frame in items]

    def shown(self, entries: Sequence[FrameMemory], image: Image) -> list[ObjectMask]:
        assert image.size_wh
        return [_mask(entry) for entry in entries]

    def _followed(self, track: ObjectMemory, bright_hw: np.ndarray, frame: int) -> tuple[ObjectMemory, ObjectMask]:
        track = track.passing(frame)
        met = track.past[-1]
        if met.frame == frame:
            return track, _mask(met)
        entry = _entry(bright_hw, tuple(met.pointer_c.tolist()), frame, track.next_step(), 20.0)
        return track.advanced(entry, self.history_frames), _mask(entry)


def _entry(bright_hw: np.ndarray, near_xy: tuple[float, float], frame: int, step: int, reach: float) -> FrameMemory:
    """The blob within `reach` of a place; the place stays where there is none."""
    _, labels_hw, _, centres_nxy = cv2.connectedComponentsWithStats(bright_hw.astype(np.uint8))
    distances = np.hypot(*(centres_nxy[1:] - near_xy).T)
    here = labels_hw[int(min(near_xy[1], SIDE - 1)), int(min(near_xy[0], SIDE - 1))]
    blob = here or (int(distances.argmin()) + 1 if len(distances) and distances.min() < reach else 0)
    logits_hw = np.where(labels_hw == blob, 8, -8) if blob else np.full((SIDE, SIDE), -1024)
    return FrameMemory(
        frame=frame,
        step=step,
        memory_tm=torch.zeros(1, 1),
        pointer_c=torch.tensor(centres_nxy[blob] if blob else near_xy, dtype=torch.float64),
        logits_hw=torch.from_numpy(logits_hw.astype(np.float32)),
        score=0.9,
        presence=5.0 if blob else -5.0,
        tracked=True,
    )


def _mask(entry: FrameMemory) -> ObjectMask:
    assert entry.mask is not None
    return entry.mask
