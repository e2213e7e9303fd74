"""A video file or a folder of pictures: what it is like, and its frames."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from tracker.config.wording import counted
from tracker.errors import SourceError
from tracker.images.imaging import resize_rgb, to_rgb
from tracker.images.types import Frame
from tracker.masks.types import U8
from tracker.streams import sources


class FileFacts(NamedTuple):
    """What is known of a file before its frames are read; `notice` is for who tracks it."""

    fps: float | None
    pixel_aspect: Fraction
    notice: str | None


def facts_of(path: Path) -> FileFacts:
    """Raises SourceError for what cannot be opened."""
    with sources.open_path(path) as opened:
        return FileFacts(opened.fps, opened.pixel_aspect, opened.notice)


def read_frame(path: Path, index: int) -> U8:
    """Frame number `index` as it is tracked, uint8 [h, w, 3]. Raises SourceError where there is none."""
    count = 0
    for found in sources.frames(path) if path.is_dir() else steady_frames(path):
        count += 1
        if found.index == index:
            return to_rgb(found.image)
    raise SourceError(f"{path}: frame {index}: it has {counted(count, 'frame')}, counted from 0")


def as_displayed(path: Path, rgb_hwc: U8) -> U8:
    """A frame with square pixels, as wide as a player makes it."""
    h, w = rgb_hwc.shape[:2]
    return resize_rgb(rgb_hwc, (round(w * facts_of(path).pixel_aspect), h))


def steady_frames(path: Path) -> Iterator[Frame]:
    """All frames at the first one's size: a video that changes its size is scaled to that, as a player would.

    Pictures of a folder are files of their own, whose masks must fit them: raises SourceError where sizes differ.
    """
    if path.is_dir():
        yield from _of_one_size(sources.frames(path))
        return
    with sources.open_path(path) as opened:
        size_wh = opened.size_wh
    yield from sources.frames(path, size_wh=size_wh)


def _of_one_size(frames: Iterator[Frame]) -> Iterator[Frame]:
    first_wh: tuple[int, int] | None = None
    for frame in frames:
        w, h = frame.size_wh
        first_w, first_h = first_wh = first_wh or (w, h)
        if (w, h) != first_wh:
            raise SourceError(
                f"frame {frame.index} ({frame.name}) is {w}x{h}, but the first one is {first_w}x{first_h}: "
                "give pictures of one size"
            )
        yield frame
