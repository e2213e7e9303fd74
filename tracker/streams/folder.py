"""A folder of pictures, or one by itself, read by PIL and kept in RGB."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Self

from tracker.images.imaging import resize_rgb
from tracker.images.limits import enlarged_too_far
from tracker.images.stills import SUFFIXES, natural_order, read_still
from tracker.images.types import U8, Rgb
from tracker.streams.picture import Misconfigured, Picture

DEFAULT_FPS = 25.0
_NAMED = 3  # of the files that were passed over, the notice names so many


@dataclass(frozen=True, slots=True)
class Listing:
    """What is in a folder: its pictures in order, and the names of all else."""

    pictures: list[Path]
    passed_over: list[str]


class FolderSource:
    """The pictures of a folder, one after the other; or one picture's file.

    `fps` is the rate that a folder plays at under `pace: real`; pictures have none of their own.
    """

    live = False
    lost = 0
    pixel_aspect = Fraction(1)

    def __init__(self, path: Path, fps: float | None = None, size_wh: tuple[int, int] | None = None) -> None:
        listing = listing_of(path) if path.is_dir() else Listing([path], [])
        self._paths = listing.pictures
        self._wanted_wh = size_wh
        self.notice: str | None = _notice(path, listing.passed_over)
        self.fps: float | None = fps or DEFAULT_FPS
        self.estimate: int | None = len(self._paths)
        first_hwc = self._read(self._paths[0])
        self.size_wh = (first_hwc.shape[1], first_hwc.shape[0])

    def __iter__(self) -> Iterator[Picture]:
        assert self.fps is not None
        for i, path in enumerate(self._paths):
            image = Rgb(self._read(path))
            yield Picture(image, i / self.fps, name=path.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def most_frames(self) -> int:
        return len(self._paths)

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def _read(self, path: Path) -> U8:
        rgb_hwc = read_still(path)
        if self._wanted_wh is None:
            return rgb_hwc
        if problem := enlarged_too_far(self._wanted_wh, (rgb_hwc.shape[1], rgb_hwc.shape[0])):
            raise Misconfigured(problem)
        return resize_rgb(rgb_hwc, self._wanted_wh)


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order. Raises SourceError, see `listing_of`."""
    return listing_of(folder).pictures


def listing_of(folder: Path) -> Listing:
    """What is in a folder. What other programs leave there is passed over: hidden files, thumbnails, notes.

    Raises Misconfigured where there are no pictures, where two have one name, and where it cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if not path.is_dir()]
    except OSError as error:
        raise Misconfigured(f"{folder}: cannot be read: {error.strerror}") from None
    pictures = [path for path in files if is_picture(path) and not _is_special(path)]
    if not pictures:
        raise Misconfigured(f"{folder}: has no pictures in it; {', '.join(sorted(SUFFIXES))} are read")
    pictures.sort(key=natural_order)
    refuse_twins(pictures)
    passed_over = sorted({path.name for path in files} - {path.name for path in pictures})
    return Listing(pictures, passed_over)


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name; hidden ones, such as `._0.jpg`, are other programs' notes."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _is_special(path: Path) -> bool:
    """A pipe, socket or device: reading it may wait for ever. A link to nowhere is a picture that is missed."""
    return path.exists() and not path.is_file()


def refuse_twins(paths: Sequence[Path]) -> None:
    """Raises Misconfigured for two pictures of one name: what is written for them would be the same file."""
    first: dict[str, Path] = {}
    for path in paths:
        other = first.setdefault(path.stem, path)
        if other != path:
            raise Misconfigured(
                f"{other} and {path} have one name, and what is written for them would be the same file: "
                "move one of them elsewhere"
            )


def _notice(folder: Path, passed_over: Sequence[str]) -> str | None:
    if not passed_over:
        return None
    names = ", ".join(passed_over[:_NAMED])
    more = ", …" if len(passed_over) > _NAMED else ""
    number = len(passed_over)
    what = "1 file that is no picture is" if number == 1 else f"{number} files that are no pictures are"
    return f"{folder}: {what} passed over ({names}{more})"
