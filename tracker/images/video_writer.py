"""Writing video files."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.video import VideoStream
from av.video.reformatter import ColorRange, Colorspace

from tracker.errors import SourceError
from tracker.masks.types import U8

TIME_BASE = Fraction(1, 90_000)
FRAGMENT_S = 2.0  # a fragment is written when the next one begins: what is lost where a file is never closed
MAX_SIDE = 16384  # of what x264 encodes
MAX_GAP = 2**31  # in TIME_BASE, 6.6 hours: MP4 holds no picture that is shown for longer
BT709 = 1  # matrix, primaries and transfer of ITU-R BT.709 have the same number in H.264


class VideoWriter:
    """An H.264 MP4 of pictures of one size, in fragments, so that a file that was never closed still plays.

    Odd sizes are made even by repeating the last row or column, as 4:2:0 needs it. `pixel_aspect` is a pixel's
    width over its height as players show it. Raises SourceError where the file cannot be written.
    """

    def __init__(
        self, path: str | Path, size_wh: tuple[int, int], fps: float, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        if max(size_wh) > MAX_SIDE:
            size = "x".join(map(str, size_wh))
            raise SourceError(f"{path}: a film's sides have at most {MAX_SIDE} pixels, and this is {size}")
        self._size_wh = size_wh
        self._pixel_aspect = pixel_aspect
        self._period = round(1 / (fps * TIME_BASE))
        self._last_pts: int | None = None
        self._last_s: float | None = None
        self._begin_s = 0.0  # the media time at which this file begins, since its clock last leapt
        # Without its last index, which players do not need: FFmpeg writes that as its last, and forgets for it that
        # what came before did not fit on the disk.
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer", "flush_packets": "1"}
        # Absolute: FFmpeg takes 12:30.mp4 for an address.
        self._container = av.open(str(Path(path).absolute()), "w", format="mp4", options=options)
        try:
            self._stream = self._h264(Fraction(fps).limit_denominator(100_000))
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as error:
            self._container.close()
            raise SourceError(f"{path}: cannot be written: {error.strerror}") from None

    def _h264(self, rate: Fraction) -> VideoStream:
        options = {"crf": "20", "preset": "veryfast", "bf": "0"}  # no B frames: the first picture is at time 0
        stream = self._container.add_stream("libx264", rate, options)
        stream.width, stream.height = (side + side % 2 for side in self._size_wh)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.sample_aspect_ratio = self._pixel_aspect
        context.gop_size = max(1, round(FRAGMENT_S * rate))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def write(self, rgb_hwc: U8, time_s: float | None = None) -> None:
        """Append a picture, uint8 [h, w, 3]: at its media time, or one period after the last.

        The file begins with the first picture. Where the clock goes back, as in two recordings that were joined,
        or leaps further than MP4 can follow, the film goes on after one period.
        """
        h, w = rgb_hwc.shape[:2]
        if (w, h) != self._size_wh:
            raise ValueError(f"a picture of {w}x{h} in a video of {self._size_wh}")
        frame = _encodable(rgb_hwc)
        self._last_pts = self._pts_of(time_s)
        frame.pts = self._last_pts
        frame.time_base = TIME_BASE
        self._container.mux(self._stream.encode(frame))

    def _pts_of(self, time_s: float | None) -> int:
        """When the next picture is shown, in `TIME_BASE`; the encoder wants these numbers to rise."""
        earliest, next_pts = 0, 0
        if self._last_pts is not None:
            earliest = self._last_pts + 1
            next_pts = self._last_pts + self._period
        if time_s is None:
            return next_pts
        gap_s = -1.0 if self._last_s is None else time_s - self._last_s
        if not 0 <= gap_s < MAX_GAP * TIME_BASE:
            self._begin_s = time_s - float(next_pts * TIME_BASE)
        self._last_s = time_s
        since_begin = round((time_s - self._begin_s) / TIME_BASE)
        return max(since_begin, earliest)

    def close(self) -> None:
        """Write what the encoder still holds, and close the file."""
        try:
            self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _encodable(rgb_hwc: U8) -> av.VideoFrame:
    """The picture in BT.709 4:2:0, its sides even."""
    h, w = rgb_hwc.shape[:2]
    even_hwc = np.pad(rgb_hwc, ((0, h % 2), (0, w % 2), (0, 0)), "edge")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even_hwc), "rgb24")
    return frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
