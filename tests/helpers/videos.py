"""Small video files with known content, written by PyAV."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import av
import numpy as np

from tracker.images.types import I420

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


def flat(yuv: tuple[int, int, int], size_wh: tuple[int, int]) -> Planes:
    w, h = size_wh
    half = ((h + 1) // 2, (w + 1) // 2)
    y, u, v = (np.full(shape, value, np.uint8) for shape, value in zip(((h, w), half, half), yuv, strict=True))
    return y, u, v


def frame_of(planes: Planes) -> av.VideoFrame:
    h, w = planes[0].shape
    frame = av.VideoFrame(w, h, "yuv420p")
    for plane, pixels_hw in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        rows[: pixels_hw.shape[0], : pixels_hw.shape[1]] = pixels_hw
    return frame


def write(
    path: Path,
    pictures: Iterable[Planes],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    colorspace: int = 2,
    full_range: bool | None = None,
    **options: str,
) -> Path:
    """One frame per picture, lossless with the codecs used here; `colorspace` is AVColorSpace, 2 untagged."""
    with av.open(str(path), "w") as container:
        stream: av.VideoStream | None = None
        for index, planes in enumerate(pictures):
            frame = frame_of(planes)
            range_ = {None: 0, False: 1, True: 2}[full_range]
            if stream is None:
                stream = cast(av.VideoStream, container.add_stream(codec, rate=fps, options=options))
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.codec_context.colorspace = colorspace
                stream.codec_context.color_range = range_
            if pix_fmt != "yuv420p":
                same = {"src_color_range": range_ or 1, "dst_color_range": range_ or 1}
                frame = frame.reformat(format=pix_fmt, **same)
            frame.colorspace, frame.color_range, frame.pts = colorspace, range_, index
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def moving(count: int, size_wh: tuple[int, int] = (64, 48)) -> Iterable[Planes]:
    """A bright bar on grey, one column further in each frame: a frame's number can be read off it."""
    for index in range(count):
        planes = flat((60, 128, 128), size_wh)
        planes[0][:, index % size_wh[0]] = 200
        yield planes


def number_of(y_hw: np.ndarray) -> int:
    """Which frame of `moving` this is."""
    return int(y_hw.astype(int).sum(0).argmax())


def rotate_mp4(path: Path, degrees_clockwise: int) -> None:
    """Turn an MP4 as phones do."""
    set_matrix(path, {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[degrees_clockwise])


def set_matrix(path: Path, abcd: tuple[int, int, int, int]) -> None:
    """Write a display matrix into an MP4's track header."""
    a, b, c, d = abcd
    one, data = 0x10000, bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 20 + 16  # version 0: version and flags, times and ids, layer and volume
    struct.pack_into(">9i", data, at, a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def black(size_wh: tuple[int, int]) -> I420:
    """A black picture."""
    return I420(*flat((16, 128, 128), size_wh))
