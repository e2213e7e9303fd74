"""Objects followed through a whole file by the same engine, in this process, without dropping a frame.

Frames stream through: what stays in memory is one picture and each object's bounded track. Tracking back in time
goes first, over pictures that were spooled to a temporary folder at the model's size, and its masks wait there
until the way forward comes by.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path

import numpy as np

from tracker.config.wording import counted
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.memory import ObjectMemory
from tracker.errors import BadPrompt, FrameMarked, SourceError
from tracker.exports import FrameResult, stem_of
from tracker.images.imaging import to_rgb
from tracker.images.types import Frame, Image
from tracker.masks.geometry import Crop, shape_of, upsample
from tracker.masks.types import F32, U8, ObjectMask
from tracker.offline.entries import PromptEntry
from tracker.offline.frames import steady_frames
from tracker.offline.images import NOTHING_FOUND, segment_everything
from tracker.offline.spool import Masks, Spool
from tracker.protocol.fields import Rle
from tracker.protocol.object_record import object_record
from tracker.protocol.prompts import prompt_of
from tracker.protocol.records import ObjectRecord
from tracker.protocol.requests import SegmentAll
from tracker.streams import sources
from tracker.streams.folder import is_picture
from tracker.streams.picture import Source


@dataclass(frozen=True, eq=False)
class Outcome:
    """All objects on one frame. What is made of the masks is made when it is first asked for."""

    frame: Frame
    masks: Masks

    @property
    def stem(self) -> str:
        return stem_of(self.frame.name, self.frame.index)

    @cached_property
    def result(self) -> FrameResult:
        """The record of every object, with its exact mask beside an outline that is good to a pixel."""
        records = [_record(object_id, mask, self.frame.size_wh) for object_id, mask in sorted(self.masks.items())]
        return FrameResult(self.frame.index, self.frame.size_wh, records, self.frame.pts, self.frame.name)

    @cached_property
    def ids_hw(self) -> U8:
        """Object ids, uint8 [h, w], 0 for none; where objects overlap, the one with the higher logit."""
        width, height = self.frame.size_wh
        ids_hw = np.zeros((height, width), np.uint8)
        best_hw = np.zeros((height, width), np.float32)
        for object_id, mask in sorted(self.masks.items()):
            crop = upsample(mask.logits_hw, self.frame.size_wh)
            if crop is not None:
                _win(ids_hw, best_hw, crop, object_id)
        return ids_hw


def _win(ids_hw: U8, best_hw: F32, crop: Crop, object_id: int) -> None:
    """Give an object the pixels where its logits are the best so far."""
    logits_hw = crop.values_hw
    h, w = logits_hw.shape
    here = (slice(crop.y, crop.y + h), slice(crop.x, crop.x + w))
    ids_here_hw, best_here_hw = ids_hw[here], best_hw[here]
    ids_here_hw[logits_hw > best_here_hw] = object_id
    np.maximum(best_here_hw, logits_hw, out=best_here_hw)


def _record(object_id: int, mask: ObjectMask, size_wh: tuple[int, int]) -> ObjectRecord:
    shape = shape_of(mask.logits_hw, size_wh, tolerance_px=1.0, rle=True)
    return object_record(object_id, shape, mask.score, mask.presence)


def track(
    engine: Engine,
    path: Path,
    entries: Sequence[PromptEntry],
    *,
    reverse: bool = False,
    on_step: Callable[[int, int | None], object] = lambda *_: None,
) -> Generator[Outcome]:
    """Follow the prompted objects through a video file or folder of pictures: one `Outcome` a frame, in order.

    An object is on every frame from its first prompt on; with `reverse` also before it, tracked back from that
    prompt. `on_step` is told how many pictures are done, and of about how many. Raises SourceError for
    what cannot be read, BadPrompt for prompts that do not fit.
    """
    if is_picture(path) and path.is_file():
        raise SourceError(f"{path}: is one picture: give the folder of all of them, or use `trackerd segment`")
    with sources.open_path(path) as opened:
        estimate, size_wh = opened.estimate, opened.size_wh
        length = _length_before(max(entry.frame for entry in entries), opened)
    if length is not None:
        _check_frames(entries, length)
    _check_marks(entries, size_wh)
    back = max(_first_frames(entries).values()) + 1 if reverse else 0
    total = None if estimate is None else estimate + back
    steps = count(1)
    return _outcomes(engine, path, entries, reverse, lambda: on_step(next(steps), total))


def _outcomes(
    engine: Engine, path: Path, entries: Sequence[PromptEntry], reverse: bool, on_step: Callable[[], object]
) -> Generator[Outcome]:
    with Spool() as spool:
        if reverse:
            for _ in _track_back(engine, path, entries, spool):
                on_step()
        for frame, masks in follow(engine, steady_frames(path), entries):
            on_step()
            yield Outcome(frame, {**spool.masks(frame.index), **masks})


def everything_on(
    engine: Engine,
    path: Path,
    frame: int,
    knobs: SegmentAll,
    *,
    first_id: int = 1,
    on_step: Callable[[int, int], object] = lambda *_: None,
) -> list[PromptEntry]:
    """Everything that is found on one frame, best first, as prompts for `track`.

    Raises BadPrompt where there is no such frame, or nothing on it.
    """
    with sources.open_path(path) as opened:
        length = _length_before(frame, opened)
    if length is not None:
        raise BadPrompt(f"frame {frame}: {_has(length)}")
    picture = next(islice(steady_frames(path), frame, None), None)
    if picture is None:
        raise BadPrompt(f"frame {frame}: the video is damaged, and ends before it")
    found = segment_everything(engine, to_rgb(picture.image), knobs, on_step)
    if not found:
        raise BadPrompt(f"frame {frame}: {NOTHING_FOUND}")
    return [
        PromptEntry(object=number, frame=frame, mask=Rle(f.size_hw, f.rle_counts))
        for number, f in enumerate(found, first_id)
    ]


def _first_frames(entries: Sequence[PromptEntry]) -> dict[int, int]:
    """Object id -> the frame of its first prompt."""
    first: dict[int, int] = {}
    for entry in entries:
        first[entry.object] = min(entry.frame, first.get(entry.object, entry.frame))
    return first


def follow(
    engine: Engine, frames: Iterable[Frame], entries: Sequence[PromptEntry]
) -> Iterator[tuple[Frame, Masks]]:
    """Objects through frames in the order in which they come, prompts and corrections where they stand."""
    tracks: dict[int, ObjectMemory] = {}
    length = 0
    for frame in frames:
        length += 1
        here = [entry for entry in entries if entry.frame == frame.index]
        yield frame, _step(engine, tracks, frame.image, frame.size_wh, frame.index, here)
    _check_frames(entries, length)


def _track_back(engine: Engine, path: Path, entries: Sequence[PromptEntry], spool: Spool) -> Iterator[int]:
    """Every object from its first prompt back to the first frame; its masks go to the spool. Gives the frames."""
    first = _first_frames(entries)
    begun = [entry for entry in entries if entry.frame == first[entry.object]]
    frames = steady_frames(path)
    size_wh, last = _spool_images(frames, max(first.values()), engine, spool)
    tracks: dict[int, ObjectMemory] = {}
    for index in reversed(range(last + 1)):
        image = spool.image(index)
        here = [entry for entry in begun if entry.frame == index]
        masks = _step(engine, tracks, image, size_wh, index, here, direction=-1)
        for object_id, mask in masks.items():
            spool.put_mask(index, object_id, mask)
        yield index


def _spool_images(frames: Iterator[Frame], last: int, engine: Engine, spool: Spool) -> tuple[tuple[int, int], int]:
    """Spool the pictures up to the one of index `last`; the size of all, and the index that was reached."""
    for frame in frames:
        spool.put_image(frame.index, engine.pixels(frame.image))
        if frame.index == last:
            break
    return frame.size_wh, frame.index


def _step(
    engine: Engine,
    tracks: dict[int, ObjectMemory],
    image: Image,
    size_wh: tuple[int, int],
    index: int,
    entries: Sequence[PromptEntry],
    direction: int = 1,
) -> dict[int, ObjectMask]:
    """Every object's mask on one picture of a video of `size_wh`; `tracks` is brought up to date."""
    if not tracks and not entries:
        return {}
    features = engine.encode([image])
    masks: dict[int, ObjectMask] = {}
    followed = engine.propagate([(track, 0, index) for track in tracks.values()], features)
    for object_id, (track, mask) in zip(list(tracks), followed, strict=True):
        tracks[object_id], masks[object_id] = track, mask
    for entry in entries:
        before = tracks.get(entry.object, ObjectMemory(direction))
        tracks[entry.object], masks[entry.object] = _prompted(engine, before, features, entry, size_wh)
    return masks


def _prompted(
    engine: Engine, track: ObjectMemory, features: Features, entry: PromptEntry, size_wh: tuple[int, int]
) -> tuple[ObjectMemory, ObjectMask]:
    with _naming(entry):
        prompt = prompt_of(entry, size_wh, correction=track.last_frame is not None)
        return engine.prompt(track, features, 0, entry.frame, prompt, size_wh)


@contextmanager
def _naming(entry: PromptEntry) -> Iterator[None]:
    """What is wrong with a prompt is said with the object and the frame."""
    try:
        yield
    except FrameMarked as error:
        remedy = "give points to correct it, or put box and points into one entry"
        raise BadPrompt(f"object {entry.object}, frame {entry.frame}: {error}: {remedy}") from None
    except BadPrompt as error:
        raise BadPrompt(f"object {entry.object}, frame {entry.frame}: {error}") from None


def _check_marks(entries: Sequence[PromptEntry], size_wh: tuple[int, int]) -> None:
    """Raises BadPrompt before anything is computed; what comes after an object's first entry corrects it."""
    marked: set[int] = set()
    clicked: set[tuple[int, int]] = set()
    for entry in sorted(entries, key=lambda entry: entry.frame):
        with _naming(entry):
            prompt_of(entry, size_wh, correction=entry.object in marked)
            if entry.box is not None and (entry.object, entry.frame) in clicked:
                raise FrameMarked("box: the object is marked on this frame already, and a box comes before points")
        marked.add(entry.object)
        if entry.mask is None:
            clicked.add((entry.object, entry.frame))


def _check_frames(entries: Sequence[PromptEntry], length: int) -> None:
    late = [entry for entry in entries if entry.frame >= length]
    if late:
        with _naming(late[0]):
            raise BadPrompt(_has(length))


def _length_before(frame: int, opened: Source) -> int | None:
    """How many frames there are at most where they end before `frame`; counted where the header does not reach."""
    if frame < (opened.estimate or 1):
        return None
    length = opened.most_frames()
    return length if frame >= length else None


def _has(length: int) -> str:
    return f"it has {counted(length, 'frame')}, counted from 0"
