"""Outlines, boxes and areas of objects of about 300x300 pixels at 1080p, from the model's low-resolution logits.

`cpu_ms` is the processor time of one thread for all objects of a frame, the median: at the default tolerance of
1 pixel, and exact. `vertices` are those of all outlines at the default tolerance.
"""

import argparse
import statistics
import time

import cv2
import numpy as np

from benches.report import Row
from tracker.masks.geometry import shapes_of
from tracker.masks.types import F32, Shape

SIZE_WH = (1920, 1080)


def run(args: argparse.Namespace, objects: int) -> Row:
    row: Row = {"objects": objects, "size": "1920x1080"}
    for cells in (64, 256):
        logits = [object_logits(k, cells) for k in range(objects)]
        shapes, simplified_s = _timed(logits, 1.0, args.rounds)
        _, exact_s = _timed(logits, 0.0, args.rounds)
        row[f"cpu_ms_of_{cells}_cells"] = round(simplified_s * 1e3, 2)
        row[f"exact_cpu_ms_of_{cells}_cells"] = round(exact_s * 1e3, 2)
        row["vertices"] = sum(len(ring) // 2 for s in shapes for polygon in s.outline for ring in polygon)
    row["mean_area"] = round(statistics.mean(shape.area for shape in shapes))
    return row


def object_logits(k: int, cells: int) -> F32:
    """One of up to eight lumpy objects side by side, with rough edges; float32 [cells, cells]."""
    rng = np.random.default_rng(k)
    y, x = np.mgrid[:cells, :cells] + 0.5
    away_x = x / cells * SIZE_WH[0] - 240 - 480 * (k % 4)
    away_y = y / cells * SIZE_WH[1] - 270 - 540 * (k // 4 % 2)
    angle = np.arctan2(away_y, away_x)
    radius = 150 * (1 + 0.15 * np.sin(3 * angle + k) + 0.08 * np.sin(7 * angle + 2 * k))
    rough = 3 * cv2.GaussianBlur(rng.standard_normal((cells, cells)), (0, 0), cells / 100)
    logits_hw: F32 = ((radius - np.hypot(away_x, away_y)) / 12 + rough).astype(np.float32)
    return logits_hw


def _timed(logits: list[F32], tolerance_px: float, rounds: int) -> tuple[list[Shape], float]:
    seconds = []
    for _ in range(rounds):
        started_s = time.thread_time()
        shapes = shapes_of(logits, SIZE_WH, tolerance_px=tolerance_px)
        seconds.append(time.thread_time() - started_s)
    return shapes, statistics.median(seconds)
