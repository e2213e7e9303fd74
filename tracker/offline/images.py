"""Pictures, one by one: what a prompt marks on them, or everything that is there."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tracker.engine import automatic
from tracker.engine.automatic import Found
from tracker.engine.engine import Engine
from tracker.engine.segmenter import Segmenter
from tracker.errors import SourceError
from tracker.exports import FrameResult
from tracker.images import imaging
from tracker.masks.geometry import mask_of, shape_of_mask
from tracker.protocol.prompts import prompt_of
from tracker.protocol.replies import ObjectRecord
from tracker.protocol.requests import Prompted, SegmentAll
from tracker.streams.folder import SUFFIXES, pictures_in
from tracker.tracking.records import object_record
from tracker.types import U8, Bool, Rgb

Scored = tuple[Bool, float]  # a mask [h, w] and the model's own predicted IoU


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """Pictures and the pictures of folders. Raises SourceError for what is neither, and for two of one name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += pictures_in(path)
        elif path.suffix.lower() in SUFFIXES:
            found.append(path)
        else:
            raise SourceError(
                f"{path}: is no picture ({', '.join(sorted(SUFFIXES))}); videos go to `trackerd track`"
            )
    by_stem: dict[str, Path] = {}
    for path in found:
        if (other := by_stem.setdefault(path.stem, path)) != path:
            raise SourceError(f"{path} and {other} have one name: what is written for them would be the same file")
    return found


def read_picture(path: Path) -> U8:
    """uint8 [h, w, 3]. Raises SourceError."""
    try:
        return imaging.decode(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path}: is not a picture that can be read: {error}") from None


def segment_prompted(engine: Engine, rgb_hwc: U8, prompted: Prompted, *, multimask: bool) -> list[Scored]:
    """What a prompt marks on a picture: one mask, or three candidates, best first. Raises BadPrompt."""
    image = Rgb(rgb_hwc)
    prompt = prompt_of(prompted, image.size_wh)
    candidates = Segmenter(engine).candidates(None, image, prompt, multimask=multimask)
    return [(mask_of(c.logits_hw, image.size_wh), c.score) for c in candidates]


def segment_everything(
    engine: Engine, rgb_hwc: U8, knobs: SegmentAll, on_step: Callable[[int, int], object] = lambda *_: None
) -> list[tuple[Found, Bool]]:
    """Everything on a picture, best first, at most `max_masks`; with `exclusive` each pixel in one mask only."""
    found: Sequence[Found] = ()
    for progress in automatic.search(engine, rgb_hwc, knobs):
        on_step(progress.done, progress.total)
        found = progress.found or ()
    best = sorted(found, key=lambda f: -f.score)[: knobs.max_masks]
    return automatic.exclusive(best) if knobs.exclusive else [(f, f.mask_hw) for f in best]


def result_of(number: int, name: str, size_wh: tuple[int, int], masks: Iterable[Scored]) -> FrameResult:
    """A picture's masks as what the exports write; their ids count from 1."""
    records = [_record(object_id, mask_hw, score) for object_id, (mask_hw, score) in enumerate(masks, 1)]
    return FrameResult(number, size_wh, records, name=name)


def _record(object_id: int, mask_hw: Bool, score: float) -> ObjectRecord:
    return object_record(object_id, shape_of_mask(mask_hw, tolerance_px=1.0, rle=True), score)
