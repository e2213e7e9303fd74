"""Pictures for people: masks, outlines and labels drawn on a frame, in one colour per object."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.geometry import rings_of
from tracker.masks.types import U8, Shape

# Sasha Trubetskoy's list of distinct colours, the most distinct first, without black, white, grey and what is
# too dark to see on a picture.
COLOURS_RGB: tuple[tuple[int, int, int], ...] = (
    (230, 25, 75),
    (60, 180, 75),
    (255, 225, 25),
    (0, 130, 200),
    (245, 130, 48),
    (145, 30, 180),
    (70, 240, 240),
    (240, 50, 230),
    (210, 245, 60),
    (250, 190, 212),
    (0, 128, 128),
    (220, 190, 255),
    (170, 110, 40),
    (255, 250, 200),
    (128, 128, 0),
    (170, 255, 195),
    (255, 215, 180),
    (85, 85, 255),
)
OPACITY = 0.4
WEIGHT = 400  # of the letters: regular
MAX_NAME = 1 / 3  # of the picture's width; a longer label is cut
MIN_NAME = 8  # but not below so many times the size of the letters


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """One object as it is drawn: what an object record says of it. Not visible: only listed by name."""

    object: int
    outline: Sequence[Sequence[Sequence[int]]] = ()
    box_xyxy: Sequence[int] | None = None
    label: str | None = None
    score: float | None = None
    state: Literal["visible", "lost", "pending"] = "visible"

    @classmethod
    def of(cls, object_id: int, shape: Shape, label: str | None = None, score: float | None = None) -> "Drawing":
        """From geometry; lost where the shape is empty."""
        state: Literal["visible", "lost"] = "visible" if shape.box_xyxy else "lost"
        return cls(object_id, shape.outline, shape.box_xyxy, label, score, state)

    @property
    def name(self) -> str:
        return f"{self.object} {self.label}" if self.label else str(self.object)

    @property
    def caption(self) -> str:
        return self.name if self.score is None else f"{self.name} {self.score:.2f}"


def colour_of(object_id: int) -> tuple[int, int, int]:
    """R, G, B of an object: always the same for one id, and told apart from its neighbours' by eye."""
    return COLOURS_RGB[(object_id - 1) % len(COLOURS_RGB)]


def palette() -> list[int]:
    """256 × R, G, B for indexed PNGs whose pixels are object ids: 0 black, the rest as drawn."""
    return [channel for i in range(256) for channel in (colour_of(i) if i else (0, 0, 0))]


@dataclass(frozen=True, slots=True)
class ZoneDrawing:
    """A zone: two vertices in pixels are a line from the first to the second, more a polygon."""

    name: str
    vertices_xy: Sequence[tuple[float, float]]
    counts: str = ""

    @property
    def caption(self) -> str:
        return f"{self.name}: {self.counts}" if self.counts else self.name


ZONE_COLOUR = (255, 255, 255)


def draw(rgb_hwc: U8, drawings: Sequence[Drawing], zones: Sequence[ZoneDrawing] = ()) -> U8:
    """A copy of the picture, uint8 [h, w, 3], with zones and objects on it and a list of those that cannot be
    seen."""
    canvas = _Canvas(rgb_hwc.copy())
    for zone in zones:
        canvas.zone(zone)
    seen = [d for d in drawings if d.state == "visible" and d.box_xyxy]
    for drawing in seen:
        canvas.tint(drawing)
    for drawing in seen:
        canvas.rim(drawing)
    for caption in canvas.missing(drawings):
        canvas.write(caption)
    for drawing in seen:
        canvas.name(drawing)
    return canvas.rgb_hwc


@dataclass(frozen=True, slots=True)
class _Caption:
    text: str
    bottom_left_xy: tuple[int, int]
    colour: tuple[int, int, int]


class _Part(NamedTuple):
    """A part of a picture, and where it lies."""

    pixels_hwc: U8
    left_top: tuple[int, int]


class _Plate(NamedTuple):
    """A filled rectangle by its first and last pixel."""

    left_top: tuple[int, int]
    right_bottom: tuple[int, int]

    def covers(self, other: "_Plate") -> bool:
        (left, top), (right, bottom) = self
        (other_left, other_top), (other_right, other_bottom) = other
        return left <= other_right and other_left <= right and top <= other_bottom and other_top <= bottom


@dataclass(slots=True)
class _Canvas:
    rgb_hwc: U8
    plates: list[_Plate] = field(default_factory=list)  # of the captions so far

    @property
    def unit(self) -> int:
        """Width of a line in pixels, by the picture's size."""
        shorter: int = min(self.rgb_hwc.shape[:2])
        return max(1, round(shorter / 360))

    @property
    def letter(self) -> int:
        """Size of the writing in pixels."""
        return 8 + 4 * self.unit

    def zone(self, zone: ZoneDrawing) -> None:
        """Its border, or a line with the head of an arrow; the caption at its first vertex."""
        vertices = np.rint(np.asarray(zone.vertices_xy, np.float64)).astype(np.int32)
        first, second = vertices[0].tolist(), vertices[1].tolist()
        if len(vertices) == 2:
            cv2.arrowedLine(self.rgb_hwc, first, second, ZONE_COLOUR, self.unit, cv2.LINE_AA, tipLength=0.05)
        else:
            cv2.polylines(self.rgb_hwc, [vertices], True, ZONE_COLOUR, self.unit, cv2.LINE_AA)
        self.write(_Caption(zone.caption, (first[0], first[1]), ZONE_COLOUR))

    def tint(self, drawing: Drawing) -> None:
        """Blend the object's colour into the picture, inside its outline only."""
        rings = rings_of(drawing.outline)
        part = self._part_around(rings)
        pixels_hwc = part.pixels_hwc
        if pixels_hwc.size == 0:
            return
        inside_hw1 = np.zeros((*pixels_hwc.shape[:2], 1), np.uint8)
        shifted = [ring - part.left_top for ring in rings]
        cv2.fillPoly(inside_hw1, shifted, 1)
        colour = np.multiply(colour_of(drawing.object), OPACITY)
        tinted_hwc = pixels_hwc * (1 - OPACITY) + colour
        tinted_hwc = tinted_hwc.astype(np.uint8)
        np.copyto(pixels_hwc, tinted_hwc, where=inside_hw1.astype(bool))

    def _part_around(self, rings: list[NDArray[np.int32]]) -> _Part:
        """The part of the picture that holds the rings; empty where there are none."""
        if not rings:
            return _Part(self.rgb_hwc[:0, :0], (0, 0))
        vertices = np.concatenate(rings)
        height, width = self.rgb_hwc.shape[:2]
        left, top = np.clip(vertices.min(0), 0, (width, height)).tolist()
        right, bottom = np.clip(vertices.max(0), 0, (width, height)).tolist()
        return _Part(self.rgb_hwc[top:bottom, left:right], (left, top))

    def rim(self, drawing: Drawing) -> None:
        """The outline; the box where no outline was sent."""
        colour, rings = colour_of(drawing.object), rings_of(drawing.outline)
        if rings:
            cv2.polylines(self.rgb_hwc, rings, True, colour, self.unit, cv2.LINE_AA)
        elif drawing.box_xyxy is not None:
            x1, y1, x2, y2 = map(int, drawing.box_xyxy)
            cv2.rectangle(self.rgb_hwc, (x1, y1), (x2 - 1, y2 - 1), colour, self.unit)

    def name(self, drawing: Drawing) -> None:
        """The caption at the top left of the object's largest part: a speck far off stretches the box."""
        if drawing.box_xyxy is not None:
            rings = rings_of(drawing.outline)
            corner = max(rings, key=cv2.contourArea).min(0) if rings else drawing.box_xyxy
            left_top = (int(corner[0]), int(corner[1]))
            self.write(_Caption(self._shortened(drawing).caption, left_top, colour_of(drawing.object)))

    def missing(self, drawings: Sequence[Drawing]) -> list[_Caption]:
        """One line for each object that is lost or pending, upwards from the bottom left."""
        hidden = [d for d in drawings if d.state != "visible"]
        height, step = self.rgb_hwc.shape[0], self.letter + 6 * self.unit
        return [
            _Caption(f"{d.state}: {self._shortened(d).name}", (0, height - i * step), colour_of(d.object))
            for i, d in enumerate(reversed(hidden))
        ]

    def _shortened(self, drawing: Drawing) -> Drawing:
        """With a label that leaves room for the captions of others."""
        font, label = cv2.FontFace("sans"), drawing.label or ""
        most = max(self.rgb_hwc.shape[1] * MAX_NAME, MIN_NAME * self.letter)
        if _text_width(drawing.name, font, self.letter) <= most:
            return drawing
        cut = [replace(drawing, label=f"{label[:letters]}…") for letters in range(len(label))]
        fit = bisect_right(cut, most, key=lambda short: _text_width(short.name, font, self.letter))
        return cut[max(0, fit - 1)]

    def write(self, caption: _Caption) -> None:
        """A caption on a plate of its object's colour, kept inside the picture and off the captions before it."""
        font = cv2.FontFace("sans")
        size = self.letter
        margin = 2 * self.unit
        plate_w = _text_width(caption.text, font, size) + 2 * margin
        plate_h = size + 2 * margin
        plate = self._free(self._plate(caption.bottom_left_xy, plate_w, plate_h))
        self.plates.append(plate)
        cv2.rectangle(self.rgb_hwc, plate.left_top, plate.right_bottom, caption.colour, cv2.FILLED)
        left, _ = plate.left_top
        _, bottom = plate.right_bottom
        base_xy = (left + margin, bottom + 1 - margin - size // 4)
        ink = _ink(caption.colour)
        cv2.putText(self.rgb_hwc, caption.text, base_xy, ink, font, size, WEIGHT)

    def _plate(self, bottom_left_xy: tuple[int, int], w: int, h: int) -> _Plate:
        """A rectangle at the wanted corner, moved into the picture."""
        height, width = self.rgb_hwc.shape[:2]
        wanted_x, wanted_y = bottom_left_xy
        left = max(0, min(wanted_x, width - w))
        bottom = min(height, max(h, wanted_y))
        return _Plate((left, bottom - h), (left + w - 1, bottom - 1))

    def _free(self, plate: _Plate) -> _Plate:
        """The nearest place above or below that no caption has; the plate's own where there is none."""
        (left, top), (right, bottom) = plate
        last = bottom - top
        near = [other for other in self.plates if _Plate((left, 0), (right, self.rgb_hwc.shape[0])).covers(other)]
        tops = [top, *(t for (_, y1), (_, y2) in near for t in (y1 - last - 1, y2 + 1))]
        for y in sorted(tops, key=lambda y: abs(y - top)):
            moved = _Plate((left, y), (right, y + last))
            if 0 <= y < self.rgb_hwc.shape[0] - last and not any(map(moved.covers, near)):
                return moved
        return plate


def _text_width(text: str, font: cv2.FontFace, size: int) -> int:
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), font, size, WEIGHT)
    return width


def _ink(plate_rgb: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever reads better on the plate (Rec. 601 luma)."""
    luma = np.dot(plate_rgb, (0.299, 0.587, 0.114))
    return (0, 0, 0) if luma > 128 else (255, 255, 255)
