"""Picture files to pixels, as a viewer shows them."""

import os
import re
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image as Pil
from PIL import ImageOps, UnidentifiedImageError

from tracker.errors import SourceError
from tracker.images.limits import MAX_PIXELS, oversize
from tracker.masks.types import U8

FORMATS = ["JPEG", "PNG", "TIFF", "WEBP", "BMP"]
SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp"}

_MOVING = {"PNG", "WEBP"}  # formats whose further pictures are later ones; a TIFF's are further pages

_GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # PIL's names for one channel of 16 bits

# PIL warns of pictures that are half as large as what it refuses; `MAX_PIXELS` decides here, before any decoding.
warnings.filterwarnings("ignore", category=Pil.DecompressionBombWarning)


def read_still(path: Path) -> U8:
    """The pixels of a picture file, uint8 [h, w, 3]. Raises SourceError."""
    refuse_special(path)
    try:
        with path.open("rb") as file:
            return decode_still(file)
    except (OSError, SyntaxError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise SourceError(f"{path}: is not a picture that can be read: {why}") from None


def refuse_special(path: Path) -> None:
    """Raises SourceError for a pipe, socket or device: reading it may wait for ever."""
    there = os.path.exists(path)  # noqa: PTH110 - Path raises for names that are too long
    if there and not path.is_file() and not path.is_dir():
        raise SourceError(f"{path}: is a pipe, a socket or a device; save what comes out of it as a file")


def decode_still(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> U8:
    """The pixels of an open picture file, uint8 [h, w, 3].

    The picture is turned upright as its EXIF tag says, and 16-bit grey is scaled to 8 bits. Raises OSError or
    ValueError for what cannot be decoded, and for more than `MAX_PIXELS`, which are never decoded; OverflowError
    for more than `max_pixels`.
    """
    try:
        with Pil.open(file, formats=FORMATS) as picture:
            if problem := oversize(picture.size):
                raise ValueError(problem)
            if picture.format in _MOVING and getattr(picture, "is_animated", False):
                raise ValueError("it is animated; make it a video or a folder of pictures")
            if picture.width * picture.height > max_pixels:
                raise OverflowError(
                    f"has {picture.width} × {picture.height} pixels; at most {max_pixels} are taken"
                )
            upright = ImageOps.exif_transpose(picture)
            return _rgb(upright)
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except (Pil.DecompressionBombError, Pil.DecompressionBombWarning):
        raise ValueError(f"has more than {MAX_PIXELS} pixels, which is the limit") from None


def _rgb(picture: Pil.Image) -> U8:
    if picture.mode == "F":
        raise ValueError("has floating-point pixels; save it with 8 or 16 bits")
    if picture.mode in _GREY_16:
        return _rgb_of_grey_16(picture)
    return np.array(picture.convert("RGB"), np.uint8)


def _rgb_of_grey_16(picture: Pil.Image) -> U8:
    """The upper 8 of 16 bits; `convert` would make everything above 255 white."""
    grey_hw = np.asarray(picture).astype(np.int64)
    if grey_hw.min(initial=0) < 0 or grey_hw.max(initial=0) > 0xFFFF:
        raise ValueError("has pixels of more than 16 bits; save it with 8 or 16 bits")
    grey_hw = (grey_hw >> 8).astype(np.uint8)
    return np.repeat(grey_hw[..., None], 3, axis=2)


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A sort key for names as people order them: frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.stem.casefold())
    key = [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]
    return key, path.name
