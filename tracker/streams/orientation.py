"""How a picture is turned and mirrored so that it stands upright: a video's display matrix."""

import struct
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer

from tracker.images.types import U8


@dataclass(frozen=True, slots=True)
class Orientation:
    """One of the eight ways to lay a picture: rows and columns exchanged first, then mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    def apply(self, plane_hw: U8) -> U8:
        """The plane as it is shown, contiguous."""
        if self.transposed:
            plane_hw = plane_hw.T
        if self.mirrored_x:
            plane_hw = plane_hw[:, ::-1]
        if self.mirrored_y:
            plane_hw = plane_hw[::-1]
        return np.ascontiguousarray(plane_hw)


UPRIGHT = Orientation()
_TURNED = {
    90: Orientation(True, mirrored_y=True),
    -90: Orientation(True, mirrored_x=True),
    180: Orientation(False, mirrored_x=True, mirrored_y=True),
    -180: Orientation(False, mirrored_x=True, mirrored_y=True),
}  # by degrees against the clock


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """What the frame's display matrix says, to the next quarter turn; upright where it has none."""
    make: Any = SideDataContainer  # its stub has no constructor
    try:
        # Not `frame.side_data`: the frame would keep that, which keeps the frame, and the picture would stay in
        # memory until Python's collector comes by, seconds and gigabytes later.
        side_data = make(frame)
        return of_matrix(bytes(side_data["DISPLAYMATRIX"]))
    except KeyError:
        return UPRIGHT
    except ValueError:  # beside it is side data of a kind that PyAV does not know, as EXIF: only the turn is left
        return _TURNED.get(frame.rotation, UPRIGHT)


def of_matrix(matrix_33: bytes) -> Orientation:
    """Of a display matrix as FFmpeg hands it out: nine int32, of which a, b, c and d map a source pixel to
    x' = a x + c y and y' = b x + d y (ISO/IEC 14496-12, 6.2.2)."""
    a, b, _, c, d = struct.unpack_from("=5i", matrix_33)
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, mirrored_x=a < 0, mirrored_y=d < 0)
    return Orientation(True, mirrored_x=c < 0, mirrored_y=b < 0)
