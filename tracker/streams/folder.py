"""A folder of JPEG or PNG pictures, read by PIL and kept in RGB: the same pixels as upstream's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
from PIL import Image as Pil

from tracker.errors import SourceError
from tracker.images.imaging import resize_rgb
from tracker.streams.picture import Misconfigured, Picture
from tracker.types import U8, Rgb

SUFFIXES = {".jpg", ".jpeg", ".png"}
DEFAULT_FPS = 25.0


class FolderSource:
    """`fps` is the rate that a folder plays at under `pace: real`; pictures have none of their own."""

    live = False
    lost = 0
    notice: str | None = None

    def __init__(self, folder: Path, fps: float | None = None, size_wh: tuple[int, int] | None = None) -> None:
        self._paths = pictures_in(folder)
        self._wanted_wh = size_wh
        self.fps: float | None = fps or DEFAULT_FPS
        self.length: int | None = len(self._paths)
        first_hwc = self._read(self._paths[0])
        self.size_wh = (first_hwc.shape[1], first_hwc.shape[0])

    def __iter__(self) -> Iterator[Picture]:
        assert self.fps is not None
        for i, path in enumerate(self._paths):
            yield Picture(Rgb(self._read(path)), i / self.fps, name=path.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing stays open between two pictures."""

    def _read(self, path: Path) -> U8:
        try:
            with Pil.open(path) as picture:
                rgb_hwc = np.array(picture.convert("RGB"))
        except (OSError, SyntaxError, ValueError, Pil.DecompressionBombError) as error:
            raise SourceError(f"{path}: is not a picture that can be read: {error}") from None
        return resize_rgb(rgb_hwc, self._wanted_wh) if self._wanted_wh else rgb_hwc


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder in order: by number where all names are numbers, as upstream has it, else by name.
    Raises Misconfigured where there are none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise Misconfigured(f"{folder}: has no pictures in it; .jpg, .jpeg and .png are read")
    if all(path.stem.isdecimal() for path in paths):
        paths.sort(key=lambda path: int(path.stem))
    return paths
