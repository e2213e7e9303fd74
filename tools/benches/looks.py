"""How well looks are found again on clips with true masks: queries from the first third of each clip, base from the
last; and how long a search in SQLite takes."""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import numpy as np
from numpy.typing import NDArray

from benches.report import Row
from evaluation.clips import TrueClip, from_folder
from tracker.config import EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.models.build import load_model
from tracker.images import looks
from tracker.images.types import Rgb
from tracker.masks.types import F32, U8, Bool
from tracker.registry.similar import Look, LookQuery, Looks

SMALLEST_PX = 100  # objects below are not looked at
DIMENSIONS = 384
BATCH = 2000


@dataclass
class Sets:
    """Vectors by kind, and whose they are, of queries and base."""

    names: dict[str, list[str]] = field(default_factory=lambda: {"query": [], "base": []})
    vectors: dict[str, dict[str, list[F32]]] = field(default_factory=lambda: {"query": {}, "base": {}})

    def put(self, part: str, name: str, vectors: dict[str, F32]) -> None:
        self.names[part].append(name)
        for kind, vector_c in vectors.items():
            self.vectors[part].setdefault(kind, []).append(vector_c)

    def measure(self, kind: str) -> tuple[float, float]:
        """Share of queries whose nearest is the same object, and mean average precision."""
        queries, base = (np.stack(self.vectors[part][kind]) for part in ("query", "base"))
        names_q, names_b = np.array(self.names["query"]), np.array(self.names["base"])
        order = np.argsort(-(queries @ base.T), axis=1)
        right = names_b[order] == names_q[:, None]
        ranks = np.arange(1, right.shape[1] + 1)
        precision = np.cumsum(right, 1) / ranks
        averages = (precision * right).sum(1) / right.sum(1).clip(1)
        return float(right[:, 0].mean()), float(averages.mean())


def vectors_of(engine: Engine, rgb_hwc: U8, mask_hw: Bool) -> dict[str, F32]:
    pooled_c = engine.look(engine.encode([Rgb(rgb_hwc)]), 0, mask_hw)
    colours_c = looks.colours(rgb_hwc, mask_hw)
    features_c = np.asarray(pooled_c / np.linalg.norm(pooled_c), np.float32)
    return {"features": features_c, "colours": colours_c, "both": looks.appearance(pooled_c, colours_c)}


def collected(engine: Engine, clips: list[TrueClip], every: int, moved: bool) -> Sets:
    """With `moved` all around the object is another clip's picture."""
    sets = Sets()
    for k, clip in enumerate(clips):
        times = sorted(clip.labels)
        third = len(times) // 3
        other = clips[(k + 1) % len(clips)]
        for part, chosen in (("query", times[:third:every]), ("base", times[-third::every])):
            for t in chosen:
                for number in clip.objects:
                    mask_hw = clip.mask(t, number)
                    if mask_hw.sum() < SMALLEST_PX:
                        continue
                    rgb_hwc = _moved(clip.frames[t], mask_hw, other) if moved else clip.frames[t]
                    sets.put(part, f"{clip.name} {number}", vectors_of(engine, rgb_hwc, mask_hw))
    return sets


def _moved(rgb_hwc: U8, mask_hw: Bool, other: TrueClip) -> U8:
    around = other.frames[len(other.frames) // 2]
    height, width = mask_hw.shape
    rows = np.linspace(0, around.shape[0] - 1, height).astype(int)
    columns = np.linspace(0, around.shape[1] - 1, width).astype(int)
    return np.where(mask_hw[..., None], rgb_hwc, around[rows][:, columns])


def found_again(args: argparse.Namespace) -> Iterator[Row]:
    engine = Engine(load_model(ModelConfig(name=args.model)), EngineConfig())
    clips = list(from_folder(args.sets))
    for moved in (False, True):
        sets = collected(engine, clips, args.every, moved)
        for kind in ("features", "colours", "both"):
            top1, precision = sets.measure(kind)
            yield {
                "what": f"{len(clips)} clips, {len(sets.names['query'])} queries"
                + (", other surroundings" if moved else ""),
                "vectors": kind,
                "top-1": round(top1, 3),
                "mAP": round(precision, 3),
            }


def searched(count: int) -> Row:
    """A file of `count` looks on eight streams: searches in one stream and in all, beside exact arithmetic."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((count, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "looks.db"
        connection = apsw.Connection(str(path))
        kept = Looks(connection)
        begun_s = time.process_time()
        for first in range(0, count, BATCH):
            with connection:
                for k in range(first, min(count, first + BATCH)):
                    kept.put(_look(k, vectors[k]))
        put_us = (time.process_time() - begun_s) / count * 1e6
        one_ms, one = _search(kept, vectors, rng, "cam3")
        all_ms, everywhere = _search(kept, vectors, rng, None)
        size = path.stat().st_size
        connection.close()
    return {
        "looks": count,
        "recall": round((one + everywhere) / 2, 4),
        "one of 8 streams, cpu ms": round(one_ms, 1),
        "all streams, cpu ms": round(all_ms, 1),
        "put, cpu us": round(put_us),
        "bytes a look (thumbnail 2000)": round(size / count),
    }


def _look(k: int, vector_c: NDArray[np.float32]) -> Look:
    about = "appearance", "a" * 64, f"cam{k % 8}", k // 8, 0, k, float(k)
    return Look(*about, (0, 0, 9, 9), None, bytes(2000), vector_c.tobytes())


def _search(
    kept: Looks, vectors: NDArray[np.float32], rng: np.random.Generator, stream: str | None
) -> tuple[float, float]:
    """Median processor time, and the share of the ten exact nearest that were found."""
    times_ms, recalls = [], []
    rows = np.arange(len(vectors)) if stream is None else np.arange(int(stream[3:]), len(vectors), 8)
    for _ in range(5):
        noisy_c = vectors[rng.choice(rows)] + 0.05 * rng.standard_normal(DIMENSIONS).astype(np.float32)
        query_c = np.asarray(noisy_c / np.linalg.norm(noisy_c), np.float32)
        begun_s = time.process_time()
        hits = kept.find(LookQuery("appearance", "a" * 64, [query_c.tobytes()], 10, stream, most_of_one=1))
        times_ms.append((time.process_time() - begun_s) * 1e3)
        exact = set(rows[np.argsort(-(vectors[rows] @ query_c))[:10]].tolist())
        recalls.append(len(exact & {hit.look.frame for hit in hits}) / 10)
    return float(np.median(times_ms)), float(np.mean(recalls))


def rows(args: argparse.Namespace) -> list[Row]:
    if args.sets is not None:
        return list(found_again(args))
    return [searched(int(count)) for count in args.looks.split(",")]
