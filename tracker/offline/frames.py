"""The frames of a file, all of one size."""

from collections.abc import Iterator
from pathlib import Path

from tracker.errors import SourceError
from tracker.streams import sources
from tracker.types import Frame


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
