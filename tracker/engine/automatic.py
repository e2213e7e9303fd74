"""Everything in a picture without being told: a grid of points, each prompted, the good and distinct masks kept.

The same as `SAM2AutomaticMaskGenerator` with its knobs under their official names; small regions are removed as its
`postprocess_small_regions` does, which the official `generate` only does where its CUDA extension is there. Scores
are of the model's own masks, also where these are then led to the picture's edges (`edges.py`). Memory
stays small: masks are held as run lengths, and only those that the predicted IoU lets pass are ever enlarged.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from sam2.utils.amg import (
    batched_mask_to_box,
    build_all_layer_point_grids,
    calculate_stability_score,
    generate_crop_boxes,
    is_box_near_crop_edge,
)
from torch import Tensor

from tracker.engine.edges import Edges
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.found_masks import Crop, Found, best_first, distinct, without_small_regions
from tracker.engine.segmenter import decode, encode
from tracker.engine.slices import Slices
from tracker.errors import AtCapacity
from tracker.masks.rle import rle_encode
from tracker.masks.types import F32, U8
from tracker.protocol.requests import SearchOptions

FIRST_BATCH = 8  # points, where batches are bounded by time
SLICE_S = 0.02  # of a search beside tracking
ENLARGED_AT_ONCE = 8  # masks at source size, float32: 66 MB at 1080p; in slices one
MAX_HELD_BYTES = 2**28  # of run lengths, before those that are alike are dropped: without thresholds all are kept


@dataclass(frozen=True, slots=True)
class Progress:
    """Points done of all points; `found` once everything is done."""

    done: int
    total: int
    found: tuple[Found, ...] | None = None


class _Good(NamedTuple):
    """The masks of a batch of points that the predicted IoU lets pass: logits float32 [n, h4, w4], the predicted
    IoU, and the point that each came from, at source size."""

    logits_nhw: Tensor
    scores_n: Tensor
    from_xy: F32


def search(
    engine: Engine, rgb_hwc: U8, options: SearchOptions, slice_s: float | None = None
) -> Iterator[Progress | None]:
    """Everything in a picture, uint8 [h, w, 3]: a `Progress` after each batch of points, the last with the result;
    None after each mask that is enlarged, compared or cleaned.

    Empty masks are left out. Other work of the engine can go on between two steps; closing the iterator ends it.
    `slice_s`: batches are made smaller than `points_per_batch` so that none takes longer, as far as can be told.
    A batch for which memory does not suffice is halved; raises AtCapacity where a single point is too much, and
    where so many masks are found that they take more than MAX_HELD_BYTES.
    """
    height, width = rgb_hwc.shape[:2]
    crops, layers = generate_crop_boxes((height, width), options.crop_n_layers, options.crop_overlap_ratio)
    grids = build_all_layer_point_grids(
        options.points_per_side, options.crop_n_layers, options.crop_n_points_downscale_factor
    )
    total = sum(len(grids[layer]) for layer in layers)
    done = 0
    found: list[Found] = []

    for (x1, y1, x2, y2), layer in zip(crops, layers, strict=True):
        crop_wh = x2 - x1, y2 - y1
        points_xy = (grids[layer] * crop_wh).astype(np.float32)
        here: list[Found] = []
        for count, batch in _search_crop(engine, rgb_hwc, (x1, y1, x2, y2), points_xy, options, slice_s):
            here += batch
            done += count
            if count:
                _check_room(found + here)
            yield Progress(done, total) if count else None
        scores = [mask.score for mask in here]
        found += yield from distinct(here, scores, options.box_nms_thresh)
    if len(crops) > 1:
        smallest_crop_first = [1 / _area(mask.crop_xyxy) for mask in found]
        found = yield from distinct(found, smallest_crop_first, options.crop_nms_thresh)
    if options.min_mask_region_area > 0:
        found = yield from without_small_regions(found, options)
    yield Progress(total, total, tuple(f for f in found if f.area))


def _check_room(found: Sequence[Found]) -> None:
    nbytes = sum(len(one.rle_counts) for one in found)
    if nbytes > MAX_HELD_BYTES:
        raise AtCapacity(
            f"segment.all: {len(found)} masks take {nbytes >> 20} MiB; raise pred_iou_thresh or "
            "stability_score_thresh, or ask for fewer points or crops"
        )


def searched(
    engine: Engine, rgb_hwc: U8, options: SearchOptions, on_step: Callable[[Progress], object] = lambda _: None
) -> Slices[list[Found]]:
    """`search` in slices of about SLICE_S; its result, best first. `on_step` is told whenever points are done."""
    found: Sequence[Found] = ()
    told = 0
    began_s = time.monotonic()
    for progress in search(engine, rgb_hwc, options, SLICE_S):
        if progress is not None:
            found = progress.found or ()
            if progress.done > told:
                told = progress.done
                on_step(progress)
        if time.monotonic() - began_s >= SLICE_S:
            yield
            began_s = time.monotonic()
    return best_first(found)


def _search_crop(
    engine: Engine, rgb_hwc: U8, crop: Crop, points_xy: F32, options: SearchOptions, slice_s: float | None
) -> Iterator[tuple[int, list[Found]]]:
    """The good masks of one crop, batch by batch, with how many points each batch had; between them what is not a
    batch yet, without points."""
    x1, y1, x2, y2 = crop
    with engine.computing():
        features = encode(engine, rgb_hwc[y1:y2, x1:x2])
    edges = None if features.pictures_nchw is None else Edges(features.pictures_nchw)
    yield 0, []
    at_once = ENLARGED_AT_ONCE if slice_s is None else 1
    done, batch = 0, options.points_per_batch if slice_s is None else min(FIRST_BATCH, options.points_per_batch)
    while done < len(points_xy):
        points = points_xy[done : done + batch]
        started_s = time.monotonic()
        found: list[Found] = []
        try:
            with engine.computing():
                good = _prompted(engine, features, points, crop, options)
            took_s = time.monotonic() - started_s
            for enlarged in _enlarged(engine, good, edges, crop, rgb_hwc.shape[:2], options, at_once):
                found += enlarged
                yield 0, []
        except AtCapacity:
            if batch == 1:
                raise AtCapacity(
                    "segment.all: out of device memory with one point at a time; free some, or choose a smaller "
                    "model.image_size"
                ) from None
            batch = max(1, batch // 2)
            continue
        done += len(points)
        if slice_s is not None:
            fitting = round(len(points) * slice_s / max(1e-6, took_s))
            batch = min(max(FIRST_BATCH, min(fitting, 2 * batch)), options.points_per_batch)
        yield len(points), found


def _prompted(engine: Engine, features: Features, points_xy: F32, crop: Crop, options: SearchOptions) -> _Good:
    """One batch of points (`SAM2AutomaticMaskGenerator._process_batch`)."""
    device, side = engine.model.device, engine.model.image_size
    crop_wh = (crop[2] - crop[0], crop[3] - crop[1])
    model_xy = torch.from_numpy(points_xy) / torch.tensor(crop_wh) * side
    points = {
        "point_coords": model_xy[:, None].to(device),
        "point_labels": torch.ones(len(points_xy), 1, dtype=torch.int32, device=device),
    }
    decoded = decode(engine, features, points, multimask=options.multimask)
    good = (decoded.scores_bm > options.pred_iou_thresh) | (options.pred_iou_thresh == 0)
    prompt_n, candidate_n = good.nonzero().unbind(1)
    from_xy = points_xy[prompt_n.cpu().numpy()] + np.array(crop[:2], np.float32)
    return _Good(decoded.logits_bmhw[prompt_n, candidate_n], decoded.scores_bm[prompt_n, candidate_n], from_xy)


def _enlarged(
    engine: Engine,
    good: _Good,
    edges: Edges | None,
    crop: Crop,
    size_hw: tuple[int, ...],
    options: SearchOptions,
    at_once: int,
) -> Iterator[list[Found]]:
    """Masks at source size, some at a time, as far as the model's own are stable there."""
    enlarge = partial(
        F.interpolate, size=(crop[3] - crop[1], crop[2] - crop[0]), mode="bilinear", align_corners=False
    )
    for begin in range(0, len(good.logits_nhw), at_once):
        some = slice(begin, begin + at_once)
        with engine.computing():
            logits_n1hw = good.logits_nhw[some, None]
            full_nhw = enlarge(logits_n1hw)[:, 0]
            stability_n = calculate_stability_score(full_nhw, 0.0, options.stability_score_offset)
            if edges is not None:
                for i in (stability_n >= options.stability_score_thresh).nonzero()[:, 0].tolist():
                    guided_hw = torch.from_numpy(edges.along(logits_n1hw[i, 0].cpu().numpy(), 0))
                    full_nhw[i] = enlarge(guided_hw.to(full_nhw.device)[None, None])[0, 0]
            found = _stable(full_nhw, stability_n, good.scores_n[some], good.from_xy[some], crop, size_hw, options)
        yield found


def _stable(
    full_nhw: Tensor,
    stability_n: Tensor,
    scores_n: Tensor,
    from_xy: F32,
    crop: Crop,
    size_hw: tuple[int, ...],
    options: SearchOptions,
) -> list[Found]:
    """Those whose mask hardly depends on the threshold and is not cut off by the crop."""
    height, width = size_hw
    masks_nhw = full_nhw > 0
    boxes_n4 = batched_mask_to_box(masks_nhw)
    kept = ~is_box_near_crop_edge(boxes_n4, list(crop), [0, 0, width, height])
    if options.stability_score_thresh > 0:
        kept &= stability_n >= options.stability_score_thresh
    x1, y1, x2, y2 = crop
    boxes, scores, stabilities = boxes_n4.tolist(), scores_n.tolist(), stability_n.tolist()
    found = []
    for i in kept.nonzero()[:, 0].tolist():
        whole_hw = np.zeros((height, width), np.bool_)
        whole_hw[y1:y2, x1:x2] = masks_nhw[i].cpu().numpy()
        left, top, right, bottom = boxes[i]
        found.append(
            Found(
                rle_encode(whole_hw),
                (height, width),
                scores[i],
                stabilities[i],
                (left + x1, top + y1, right + x1, bottom + y1),
                (float(from_xy[i, 0]), float(from_xy[i, 1])),
                crop,
                int(np.count_nonzero(whole_hw)),
            )
        )
    return found


def _area(crop: Crop) -> int:
    return (crop[2] - crop[0]) * (crop[3] - crop[1])
