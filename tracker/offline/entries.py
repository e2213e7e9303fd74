"""Prompts files: which objects to follow through a file, and where they are marked. Needs no torch."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import msgspec

from tracker.config.wording import place_and_words, why_unreadable
from tracker.config.yaml import load_yaml
from tracker.errors import BadPrompt
from tracker.protocol.fields import FrameIndex, ObjectId
from tracker.protocol.requests import Prompted


class PromptEntry(Prompted, frozen=True, kw_only=True):
    """One entry of a prompts file; later entries of the same object are corrections."""

    object: ObjectId
    frame: FrameIndex = 0


def read_entries(path: Path) -> list[PromptEntry]:
    """A prompts file: a YAML list of `{object, frame, points?, labels?, box?}`. Raises BadPrompt."""
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadPrompt(f"{path}: cannot be read: {why_unreadable(error)}") from None
    except ValueError as error:
        raise BadPrompt(f"{path}: {error}") from None
    if not isinstance(data, list) or not data:
        raise BadPrompt(f"{path}: must be a list of {{object, frame, points?, labels?, box?}}, one entry or more")
    return [entry_of(item, f"{path}: entry {number}") for number, item in enumerate(data, 1)]


def entry_of(item: Any, where: str) -> PromptEntry:
    """An entry from plain data; `where` it stands is said in errors. Raises BadPrompt."""
    if isinstance(item, dict) and "mask" in item:
        raise BadPrompt(f"{where}: mask: is not taken here; give points, labels or box")
    try:
        return msgspec.convert(item, PromptEntry)
    except msgspec.ValidationError as error:
        place, words = place_and_words(error)
        raise BadPrompt(": ".join(filter(None, (where, place.lstrip("."), words)))) from None


def in_decoded_pixels(entry: PromptEntry, pixel_aspect: Fraction) -> PromptEntry:
    """An entry whose marks were read off a player, which makes pixels square by changing the picture's width."""
    factor = float(1 / pixel_aspect)
    points, box = entry.points, entry.box
    if points is not None:
        points = [(x * factor, y) for x, y in points]
    if box is not None:
        x1, y1, x2, y2 = box
        box = (x1 * factor, y1, x2 * factor, y2)
    return msgspec.structs.replace(entry, points=points, box=box)
