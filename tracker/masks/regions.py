"""Polygons and lines on a picture, and how much of an object lies in them; plane geometry by shapely."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import shapely
from shapely.geometry.base import BaseGeometry

from tracker.masks.types import Shape

FOOT = 0.1  # of an object's height: its lowest part, which it stands on
FOOT_RADIUS = 0.05  # of an object's height: a disc rather than a point, so that an edge does not tremble

Xy = tuple[float, float]


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """An object in the plane: its mask's outline, or a small disc where it stands; and the point that moves."""

    geometry: BaseGeometry
    area: float
    at_xy: Xy

    @classmethod
    def of_mask(cls, shape: Shape) -> Self | None:
        """From a shape with an outline; None where it is empty."""
        geometry = _mask_geometry(shape)
        return None if geometry is None else cls(geometry, geometry.area, _xy(geometry.centroid))

    @classmethod
    def of_foot(cls, shape: Shape) -> Self | None:
        """The middle of the mask's lowest part, at its lower edge."""
        geometry = _mask_geometry(shape)
        if geometry is None:
            return None
        left, top, right, bottom = geometry.bounds
        height = bottom - top
        lowest = geometry.intersection(shapely.box(left, bottom - FOOT * height, right, bottom))
        foot = shapely.Point(lowest.centroid.x, bottom)
        disc = foot.buffer(max(1.0, FOOT_RADIUS * height), quad_segs=4)
        return cls(disc, disc.area, _xy(foot))


class Reading(NamedTuple):
    """How much of an object is inside a region, 0 to 1, and where it is."""

    share: float
    at_xy: Xy


class Region:
    """A polygon, or all that lies to the left of a line, as one looks from its first point to its second."""

    def __init__(self, vertices_xy: Sequence[Xy], size_wh: tuple[int, int]) -> None:
        """Pixels. Two vertices are a line, more a polygon."""
        self._line = shapely.LineString(vertices_xy) if len(vertices_xy) == 2 else None
        is_line = self._line is not None
        self._area = _left_of(vertices_xy, size_wh) if is_line else shapely.Polygon(vertices_xy)
        shapely.prepare(self._area)

    def read(self, figure: Figure) -> Reading:
        if self._area.contains(figure.geometry):
            return Reading(1.0, figure.at_xy)
        inside = self._area.intersection(figure.geometry).area
        return Reading(inside / figure.area, figure.at_xy)

    def is_met_by(self, before_xy: Xy, after_xy: Xy) -> bool:
        """Whether a way from one point to the other goes over the line itself, not past its ends."""
        assert self._line is not None
        return bool(self._line.intersects(shapely.LineString([before_xy, after_xy])))


def region_problem(vertices_xy: Sequence[Xy]) -> str | None:
    """Why a polygon has no inside that everybody would agree on. Two vertices are a line, which is always right."""
    if len(vertices_xy) == 2:
        return None
    polygon = shapely.Polygon(vertices_xy)
    if polygon.convex_hull.area == 0:
        return "polygon: its points lie on one line, so nothing is inside"
    if not polygon.is_valid:
        return "polygon: its sides cross or touch each other"
    return None


def outside_problem(vertices_xy: Sequence[Xy], size_wh: tuple[int, int]) -> str | None:
    """Why nothing in a picture of this size can ever be in a polygon or at a line, in pixels."""
    is_line = len(vertices_xy) == 2
    figure = shapely.LineString(vertices_xy) if is_line else shapely.Polygon(vertices_xy)
    if figure.intersects(shapely.box(0, 0, *size_wh)):
        return None
    return f"{'line' if is_line else 'polygon'}: it lies outside the picture of {size_wh[0]} × {size_wh[1]} pixels"


def _left_of(line_xy: Sequence[Xy], size_wh: tuple[int, int]) -> BaseGeometry:
    """The half of the plane on the left of a line, as far as it matters for a picture of this size."""
    begin_xy, end_xy = np.array(line_xy, np.float64)
    along_xy = (end_xy - begin_xy) / np.linalg.norm(end_xy - begin_xy)
    left_xy = np.array([along_xy[1], -along_xy[0]])  # y grows downwards
    far = 4.0 * (sum(size_wh) + np.abs(begin_xy).sum())
    behind_xy = begin_xy - far * along_xy
    ahead_xy = begin_xy + far * along_xy
    away_xy = far * left_xy
    return shapely.Polygon([behind_xy, ahead_xy, ahead_xy + away_xy, behind_xy + away_xy])


def _mask_geometry(shape: Shape) -> BaseGeometry | None:
    polygons = []
    for outer, *holes in shape.outline:
        rings = [list(zip(ring[::2], ring[1::2], strict=True)) for ring in (outer, *holes)]
        polygons.append(shapely.Polygon(rings[0], rings[1:]))
    if not polygons:
        return None
    geometry: BaseGeometry = shapely.MultiPolygon(polygons) if len(polygons) > 1 else polygons[0]
    if not geometry.is_valid:  # simplified rings may touch
        geometry = geometry.buffer(0)
    return geometry if geometry.area > 0 else None


def _xy(point: shapely.Point) -> Xy:
    return point.x, point.y
