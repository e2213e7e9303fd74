"""Rings with fewer vertices, within a tolerance that is checked."""

from collections.abc import Sequence
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tracker.masks.sheet import Ring
from tracker.masks.types import F32

Numbers = NDArray[np.int64]
T = TypeVar("T", np.int32, np.int64)


def simplified(rings: Sequence[Ring], tolerance_px: float) -> list[Ring]:
    """Rings within `tolerance_px`; as they were where they would collapse, so that no part and no hole is lost."""
    fewest = list(rings)
    remaining = [i for i, ring in enumerate(rings) if len(ring) > 4] if tolerance_px > 0 else []
    # The clean-up at the end of approxPolyDP can go past its epsilon; seen up to 1.2 times.
    for epsilon_px in (tolerance_px, tolerance_px / 2):
        tried = {i: _approximated(rings[i], epsilon_px) for i in remaining}
        standing = [i for i, fewer in tried.items() if not _collapsed(fewer)]
        if not standing:
            break
        off_px = distances_px([rings[i] for i in standing], [tried[i] for i in standing])
        remaining = []
        for i, distance_px in zip(standing, off_px, strict=True):
            if distance_px <= tolerance_px + 1e-3:
                fewest[i] = tried[i]
            else:
                remaining.append(i)
    return fewest


def _approximated(ring: Ring, epsilon_px: float) -> Ring:
    fewer: Ring = cv2.approxPolyDP(ring, epsilon_px, closed=True)[:, 0].astype(np.int32, copy=False)
    return fewer


def _collapsed(ring: Ring) -> bool:
    return len(ring) < 3 or cv2.contourArea(ring) == 0


def distances_px(rings: Sequence[Ring], fewer: Sequence[Ring]) -> list[float]:
    """How far a vertex of each ring lies at most from the side of its simplified ring that replaces it; infinite
    where unclear. All rings at once."""
    lengths = np.array([len(ring) for ring in rings])
    sides = np.array([len(few) for few in fewer])
    vertices_xy, corners_xy = np.concatenate(rings), np.concatenate(fewer)
    first_sides = np.cumsum(sides) - sides
    places = _places(vertices_xy, lengths, corners_xy, sides)
    # So many vertices each side stands for.
    counts = (_next(places, first_sides) - places) % lengths.repeat(sides)
    sums = np.add.reduceat(counts, first_sides)
    # A ring that touches itself may be taken up at the wrong end.
    clear = (sums == lengths) & (np.minimum.reduceat(counts, first_sides) > 0)
    replaced = _replaced(places, counts, lengths, sides)
    away_xy = vertices_xy.take(replaced, 0) - corners_xy.repeat(counts, 0)
    along_xy = _directions(corners_xy, first_sides).repeat(counts, 0)
    distances = np.abs(away_xy[:, 0] * along_xy[:, 1] - away_xy[:, 1] * along_xy[:, 0])
    farthest_px = np.maximum.reduceat(distances, np.cumsum(sums) - sums)
    distances_of_rings: list[float] = np.where(clear, farthest_px, np.inf).tolist()
    return distances_of_rings


def _replaced(places: Numbers, counts: Numbers, lengths: Numbers, sides: Numbers) -> Numbers:
    """The vertices that each side stands for, as indices into those of all rings: so many from its place on, and
    round the ring's end."""
    first_vertices = np.cumsum(lengths) - lengths
    begun = np.cumsum(counts) - counts
    within = np.arange(counts.sum()) + (places - begun).repeat(counts)
    rings = np.arange(len(lengths)).repeat(sides).repeat(counts)
    length_each = lengths.take(rings)
    within -= np.where(within >= length_each, length_each, 0)
    replaced: Numbers = within + first_vertices.take(rings)
    return replaced


def _directions(corners_xy: Ring, first_sides: Numbers) -> F32:
    """Of each side, as long as 1 pixel."""
    sides_xy = (_next(corners_xy, first_sides) - corners_xy).astype(np.float32)
    lengths_px = np.hypot(sides_xy[:, 0], sides_xy[:, 1])
    directions_xy: F32 = sides_xy / lengths_px.clip(1)[:, None]  # a side of a ring that touches itself may be 0
    return directions_xy


def _places(vertices_xy: Ring, lengths: Numbers, corners_xy: Ring, sides: Numbers) -> Numbers:
    """Where each corner of a simplified ring lies among the vertices of its ring."""
    of_vertices = _as_numbers(vertices_xy, lengths)
    of_corners = _as_numbers(corners_xy, sides)
    order = np.argsort(of_vertices, kind="stable")
    found = np.searchsorted(of_vertices, of_corners, sorter=order)
    first_vertices = np.cumsum(lengths) - lengths
    return order.take(found) - first_vertices.repeat(sides)


def _as_numbers(vertices_xy: Ring, lengths: Numbers) -> Numbers:
    """Each vertex as one number: its ring, y and x."""
    rings: Numbers = np.arange(len(lengths)).repeat(lengths)
    x, y = vertices_xy.astype(np.int64).T
    numbers: Numbers = (rings << 42) + (y << 21) + x
    return numbers


def _next(values: NDArray[T], firsts: Numbers) -> NDArray[T]:
    """What follows each value in its ring: after the last one comes the first."""
    following = np.empty_like(values)
    following[:-1] = values[1:]
    lasts = np.append(firsts[1:], len(values)) - 1
    following[lasts] = values[firsts]
    return following
