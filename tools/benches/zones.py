"""Counts at a line and in a polygon on rendered scenes with known crossings: with true masks, and with a model."""

import argparse
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from benches.report import Row
from tracker.config import EngineConfig, ModelConfig, ZoneConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.engine.models.build import load_model
from tracker.images.types import I420, Frame, Rgb
from tracker.masks.geometry import shape_of, shape_of_mask
from tracker.masks.types import ObjectMask, Shape
from tracker.protocol.prompt import Prompt
from tracker.tracking.zone import SeenObject
from tracker.tracking.zones import StreamZones

SIZE_WH = (320, 240)
FPS = 20.0
FRAMES = 80
RADIUS_PX = 16
LINE_X, ROOM_XX = 160.0, (200.0, 290.0)
ZONES = {
    "line": ZoneConfig(line=((LINE_X, 0), (LINE_X, 240))),
    "room": ZoneConfig(polygon=[(ROOM_XX[0], 0), (ROOM_XX[1], 0), (ROOM_XX[1], 240), (ROOM_XX[0], 240)]),
}
Mask = NDArray[np.bool_]
Counts = Counter[str]


@dataclass(frozen=True)
class Walker:
    """A textured ball that goes to and fro between two places, with rests at both: `x_t` on each frame."""

    y: float
    x_t: NDArray[np.float64]
    texture: NDArray[np.uint8]

    def mask(self, t: int) -> Mask:
        y_hw, x_hw = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]] + 0.5
        inside: Mask = (x_hw - self.x_t[t]) ** 2 + (y_hw - self.y) ** 2 < RADIUS_PX**2
        return inside

    def crossings(self) -> Counts:
        """What happened, from its way alone. It never turns back nearer than its own size to a border."""
        side_t = self.x_t > LINE_X
        inside_t = (self.x_t > ROOM_XX[0]) & (self.x_t < ROOM_XX[1])
        steps, entries = np.diff(side_t.astype(int)), np.diff(inside_t.astype(int), prepend=0)
        # Looking down along the line, what is to the right in the picture is on the left.
        return Counter(
            to_left=int((steps > 0).sum()),
            to_right=int((steps < 0).sum()),
            entered=int((entries > 0).sum()),
            left=int((entries < 0).sum()),
        )


def scene(seed: int) -> tuple[NDArray[np.uint8], list[Walker]]:
    """A background, [h, w, 3], and three balls."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 160, (12, 16, 3), np.uint8)
    ground = np.asarray(cv2.resize(coarse, SIZE_WH, interpolation=cv2.INTER_CUBIC), np.uint8)
    stops = np.array([40.0, 110.0, 245.0])
    walkers = []
    for y in (50.0, 120.0, 190.0):
        places = [int(rng.integers(3))]
        while len(places) < 4:
            places.append(int(rng.choice([k for k in range(3) if k != places[-1]])))
        x_t = np.interp(np.linspace(0, 3, FRAMES), range(4), stops[places])
        texture = cv2.resize(rng.integers(0, 256, (4, 4, 3), np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST)
        walkers.append(Walker(y, x_t, np.asarray(texture, np.uint8)))
    return ground, walkers


def picture(ground: NDArray[np.uint8], walkers: list[Walker], t: int) -> NDArray[np.uint8]:
    rgb_hwc = ground.copy()
    for walker in walkers:
        mask_hw = walker.mask(t)
        y, x = np.nonzero(mask_hw)
        rgb_hwc[mask_hw] = walker.texture[
            np.clip(y - int(walker.y) + 32, 0, 63), np.clip(x - int(walker.x_t[t]) + 32, 0, 63)
        ]
    return rgb_hwc


def frame(t: int) -> Frame:
    grey_hw = np.zeros((1, 1), np.uint8)
    return Frame("cam", t, 0, t / FPS, t / FPS, round(t / FPS * 1e9), None, I420(grey_hw, grey_hw, grey_hw))


def counted(shapes_tn: Iterator[list[Shape]]) -> list[Counts]:
    """What each object did, by its shapes on each frame; an empty shape is an object that is lost."""
    zones, told = StreamZones(ZONES), []
    for t, shapes_n in enumerate(shapes_tn):
        seen = [SeenObject(k + 1, 0, (None,), shape) for k, shape in enumerate(shapes_n)]
        told += zones.observe(frame(t), seen, {one.id for one in seen})
    counts = [Counter[str]() for _ in range(3)]
    for change in told:
        counts[change.object - 1][change.direction or change.name.removeprefix("zone_")] += 1
    return counts


def true_shapes(walkers: list[Walker]) -> Iterator[list[Shape]]:
    for t in range(FRAMES):
        yield [shape_of_mask(walker.mask(t), tolerance_px=1.0) for walker in walkers]


def followed_shapes(engine: Engine, ground: NDArray[np.uint8], walkers: list[Walker]) -> Iterator[list[Shape]]:
    """Each ball prompted by its box on the first frame, and followed by the model."""
    memories = [ObjectMemory() for _ in walkers]
    for t in range(FRAMES):
        features = engine.encode([Rgb(picture(ground, walkers, t))])
        if t == 0:
            results = [
                engine.prompt(memory, features, 0, 0, _box(walker), SIZE_WH)
                for memory, walker in zip(memories, walkers, strict=True)
            ]
        else:
            results = engine.propagate([(memory, 0, t) for memory in memories], features)
        memories = [memory for memory, _ in results]
        yield [_shape(mask) for _, mask in results]


def _box(walker: Walker) -> Prompt:
    x, y = walker.x_t[0], walker.y
    box = np.array([x - RADIUS_PX, y - RADIUS_PX, x + RADIUS_PX, y + RADIUS_PX], np.float32)
    return Prompt(box_xyxy=box)


def _shape(mask: ObjectMask) -> Shape:
    if mask.presence <= 0:
        return Shape(SIZE_WH)
    return shape_of(mask.logits_hw, SIZE_WH, tolerance_px=1.0)


def rows(args: argparse.Namespace) -> Iterator[Row]:
    engine = Engine(load_model(ModelConfig(name=args.model)), EngineConfig())
    right, happened, total = Counter[str](), 0, 0
    for seed in range(args.scenes):
        ground, walkers = scene(seed)
        truth = [walker.crossings() for walker in walkers]
        happened += sum(sum(counts.values()) for counts in truth)
        total += len(walkers)
        right["true masks"] += _right(counted(true_shapes(walkers)), truth)
        right[args.model] += _right(counted(followed_shapes(engine, ground, walkers)), truth)
    for masks, count in right.items():
        yield {
            "masks": masks,
            "scenes": args.scenes,
            "crossings, entries, exits": happened,
            "objects counted right": f"{count} of {total}",
            "share": round(count / total, 4),
        }


def _right(found: list[Counts], truth: list[Counts]) -> int:
    """Objects of whom everything was counted as it happened, and nothing else."""
    return sum(+a == +b for a, b in zip(found, truth, strict=True))
