"""Pictures, one by one: what a prompt marks on them, or everything that is there."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tracker.engine import automatic, found_masks
from tracker.engine.engine import Engine
from tracker.engine.found_masks import Found
from tracker.engine.segmenter import Segmenter
from tracker.engine.slices import whole
from tracker.errors import SourceError
from tracker.exports import FrameResult
from tracker.images.stills import SUFFIXES
from tracker.images.types import Rgb
from tracker.masks.geometry import mask_of, shape_of_mask
from tracker.masks.types import U8, Bool
from tracker.protocol.object_record import object_record
from tracker.protocol.prompts import prompt_of
from tracker.protocol.records import ObjectRecord
from tracker.protocol.requests import Prompted, SegmentAll
from tracker.streams.folder import is_picture, pictures_in, refuse_twins

NOTHING_FOUND = (
    "nothing was found; lower --pred-iou-thresh or --stability-score-thresh, for the bundled nano to 0.3 and 0.7"
)

Scored = tuple[Bool, float]  # a mask [h, w] and the model's own predicted IoU


def find_pictures(paths: Sequence[Path], *, written_by_name: bool = False) -> list[Path]:
    """Pictures and the pictures of folders. Raises SourceError for what is neither, and where something is written
    for each under its name for two of one name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += pictures_in(path)
        elif is_picture(path):
            found.append(path)
        else:
            kinds = ", ".join(sorted(SUFFIXES))
            raise SourceError(f"{path}: has no ending of a picture ({kinds}); videos go to `trackerd track`")
    if written_by_name:
        refuse_twins(found)
    return found


def segment_prompted(engine: Engine, rgb_hwc: U8, prompted: Prompted, *, multimask: bool) -> list[Scored]:
    """What a prompt marks on a picture: one mask, or three candidates, best first. Raises BadPrompt."""
    image = Rgb(rgb_hwc)
    prompt = prompt_of(prompted, image.size_wh)
    candidates = Segmenter(engine).candidates(None, image, prompt, multimask=multimask)
    return [(mask_of(c.logits_hw, image.size_wh), c.score) for c in candidates]


def segment_everything(
    engine: Engine, rgb_hwc: U8, knobs: SegmentAll, on_step: Callable[[int, int], object] = lambda *_: None
) -> list[Found]:
    """Everything on a picture, best first, at most `max_masks`; with `exclusive` each pixel in one mask only."""
    found: Sequence[Found] = ()
    for progress in automatic.search(engine, rgb_hwc, knobs):
        if progress is not None:
            on_step(progress.done, progress.total)
            found = progress.found or ()
    return whole(found_masks.chosen(found_masks.best_first(found), knobs.max_masks, alone=knobs.exclusive))


def result_of(number: int, name: str, size_wh: tuple[int, int], masks: Iterable[Scored]) -> FrameResult:
    """A picture's masks as what the exports write; their ids count from 1."""
    records = [_record(object_id, mask_hw, score) for object_id, (mask_hw, score) in enumerate(masks, 1)]
    return FrameResult(number, size_wh, records, name=name)


def _record(object_id: int, mask_hw: Bool, score: float) -> ObjectRecord:
    return object_record(object_id, shape_of_mask(mask_hw, tolerance_px=1.0, rle=True), score)
