"""What bfloat16 on a CPU gives and takes, part by part: processor time of a frame with 1 and 8 objects, and how
well the masks of real clips agree with those of float32. A mode may be the default if `lowest` is at least 0.98 and
`mean` at least 0.995: the IoU on the worst frame of any object, and the mean over the worst object's frames.

Of the frames on which float32 sees an object: `seen` is the mean over all,
`lowest_clip` that of the worst clip; `flips` are frames on which one sees it and the other does not."""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benches.network import network, prompted
from benches.report import Row
from evaluation.clips import TrueClip, from_folder, unjudged
from evaluation.follow import follow
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.models.build import Model
from tracker.engine.precision import FAST, Precision

EXACT = Precision()
EACH = {name: EXACT._replace(**{name: torch.bfloat16}) for name in Precision._fields}
EVERYTHING = Precision(*(torch.bfloat16 for _ in Precision._fields))
KINDS = {"none": EXACT, **EACH, "fast": FAST, "everything": EVERYTHING}
WARM_UP, MEASURED = 18, 5  # frames

Masks = dict[tuple[str, int], dict[int, NDArray[np.bool_]]]  # of each clip and object, by frame


def rows(args: argparse.Namespace) -> Iterator[Row]:
    """First float32, then each part by itself, what `mode: fast` has, and everything."""
    model = Model(args.model, network(args))
    clips = [cut(clip, args.frames) for clip in (*from_folder(args.folder), *map(boxed, args.box))]
    exact: Masks = {}
    for name, precision in KINDS.items():
        if args.only and name not in ("none", *args.only):
            continue
        engine = Engine(model, EngineConfig(), precision=precision)
        found = {(r.clip, r.number): r.masks for clip in clips for r in follow(engine, clip, "box")}
        exact = exact or found
        agreement = {key: [iou(mask, found[key][t]) for t, mask in masks.items()] for key, masks in exact.items()}
        worst = min(agreement, key=lambda key: min(agreement[key]))
        yield {
            "bfloat16": name,
            "cpu_ms_1": round(frame_ms(engine, 1), 1),
            "cpu_ms_8": round(frame_ms(engine, 8), 1),
            "lowest": round(min(agreement[worst]), 4),
            "mean": round(min(statistics.mean(ious) for ious in agreement.values()), 4),
            "mean_of_all": round(statistics.mean(statistics.mean(ious) for ious in agreement.values()), 4),
            "lowest_on": f"{worst[0]} {worst[1]}",
            **where_seen(exact, found),
        }


def where_seen(exact: Masks, found: Masks) -> Row:
    by_clip: dict[str, list[float]] = {}
    flips = frames = 0
    for (clip, number), masks in exact.items():
        for t, mask_hw in masks.items():
            found_hw = found[clip, number][t]
            frames += 1
            flips += bool(mask_hw.any()) != bool(found_hw.any())
            if mask_hw.any():
                by_clip.setdefault(clip, []).append(iou(mask_hw, found_hw))
    every = [value for values in by_clip.values() for value in values]
    return {
        "seen": round(statistics.mean(every), 4),
        "lowest_clip": round(min(statistics.mean(values) for values in by_clip.values()), 4),
        "flips": f"{flips} of {frames}",
    }


def boxed(text: str) -> TrueClip:
    """`VIDEO=x0,y0,x1,y1`: a clip whose object fills a box on the first frame."""
    path, _, box = text.rpartition("=")
    x0, y0, x1, y1 = (int(number) for number in box.split(","))
    return unjudged(Path(path), (x0, y0, x1, y1))


def cut(clip: TrueClip, frames: int) -> TrueClip:
    kept = {t: label_hw for t, label_hw in clip.labels.items() if t < frames}
    return TrueClip(clip.name, clip.frames[:frames], kept, clip.objects)


def iou(a_hw: NDArray[np.bool_], b_hw: NDArray[np.bool_]) -> float:
    """1 for two empty masks."""
    union = int((a_hw | b_hw).sum())
    return int((a_hw & b_hw).sum()) / union if union else 1.0


def frame_ms(engine: Engine, objects: int) -> float:
    """Processor time of a frame, full memories, the median of a few."""
    side, seconds = engine.model.image_size, []
    picture = torch.rand(1, 3, side, side)
    features = engine.encode_tensor(picture)
    tracks = [prompted(engine, features, 0, k) for k in range(objects)]
    for frame in range(1, 1 + WARM_UP + MEASURED):
        began = time.process_time()
        features = engine.encode_tensor(picture)
        tracks = [track for track, _ in engine.propagate([(track, 0, frame) for track in tracks], features)]
        seconds.append(time.process_time() - began)
    return 1e3 * statistics.median(seconds[WARM_UP:])
