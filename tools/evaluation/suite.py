"""All that a folder's `splits.json` lists for judging: first answers, clips followed, what scores are worth."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from evaluation.clips import TrueClip, read_clip
from evaluation.follow import Result, first_answer, follow
from evaluation.report import write_sheet
from tracker.engine.engine import Engine

SMALLEST_SHARE = 0.002
"""Of a picture, for its objects to be asked for."""
BINS = 10
HEADER = (
    f"{'set':<16} {'clips':>5} {'objects':>7} {'box':>6} {'point':>6} {'J':>6} {'F':>6} {'J&F':>6} {'score':>6} "
    f"{'other':>6} {'gap':>6}"
)


@dataclass
class Judged:
    """What was found in one set: IoU of first answers by prompt, and the objects that were followed."""

    name: str
    clips: int = 0
    first: dict[str, list[float]] = field(default_factory=lambda: {"box": [], "point": []})
    followed: list[Result] = field(default_factory=list)


def judge_suite(
    engine: Engine, folder: Path, sheets: Path | None, only: Iterable[str] = (), kind: str = "box"
) -> Iterator[Judged]:
    """Each judging set of `folder`, or those of `only`, when it is done. Raises FileNotFoundError."""
    if not (folder / "splits.json").is_file():
        raise FileNotFoundError(f"{folder}: no splits.json, which would say what is for judging")
    listed = json.loads((folder / "splits.json").read_text())["judge"]
    paths: dict[str, list[Path]] = {}
    for name in [*listed["videos"], *listed["images"]]:
        paths.setdefault(Path(name).parent.name, []).append(folder / name)
    for name, members in paths.items():
        if not only or name in only:
            yield _judge_set(engine, name, members, sheets, kind)


def _judge_set(engine: Engine, name: str, members: list[Path], sheets: Path | None, kind: str) -> Judged:
    judged = Judged(name)
    for path in members:
        clip = read_clip(path / "frames", path / "masks") if path.is_dir() else _picture(path)
        if clip is None:
            continue
        judged.clips += 1
        for prompt, ious in judged.first.items():
            ious += [first_answer(engine, clip, number, prompt) for number in clip.objects]
        if len(clip.frames) > 1:
            found = follow(engine, clip, kind)
            judged.followed += [result for result in found if result.j_t]
            if sheets:
                write_sheet(sheets / f"{name}-{clip.name}.png", clip, found)
            for result in found:
                result.masks.clear()
    return judged


def _picture(path: Path) -> TrueClip | None:
    """A single image as a clip of one frame; None where all its objects are tiny."""
    label_hw: NDArray[np.uint8] = np.array(Image.open(path.with_name(f"{path.name}.png")))
    share_n = np.bincount(label_hw.ravel(), minlength=256) / label_hw.size
    objects = tuple(int(n) for n in np.flatnonzero(share_n > SMALLEST_SHARE) if n not in (0, 255))
    frame = np.array(Image.open(path.with_name(f"{path.name}.jpg")).convert("RGB"))
    return TrueClip(path.name, [frame], {0: label_hw}, objects) if objects else None


def score_error(results: Iterable[Result]) -> float:
    """Mean |predicted IoU - IoU| over ten equal bins of the prediction, weighted by how many are in each."""
    pairs = np.array([pair for result in results for pair in result.said_t])
    if not len(pairs):
        return float("nan")
    bin_n = np.minimum((pairs[:, 0] * BINS).astype(int), BINS - 1)
    gaps = [abs(float((pairs[bin_n == b, 0] - pairs[bin_n == b, 1]).sum())) for b in range(BINS)]
    return sum(gaps) / len(pairs)


def row(judged: Judged) -> str:
    """The set's line under `HEADER`; what was not measured is a dash. An object's figure counts once."""
    found = judged.followed
    box, point = (_mean(judged.first[kind]) for kind in ("box", "point"))
    j, f = _mean([r.j for r in found]), _mean([r.f for r in found])
    several = [r.elsewhere for r in found if r.several]
    figures = [box, point, j, f, (j + f) / 2, _mean([r.score_right for r in found]), _mean(several)]
    shown = " ".join(
        "     -" if np.isnan(figure) else f"{figure:6.3f}" for figure in [*figures, score_error(found)]
    )
    return f"{judged.name:<16} {judged.clips:>5} {len(judged.first['box']):>7} {shown}"


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
