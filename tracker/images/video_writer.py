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
from tracker.types import U8

TIME_BASE = Fraction(1, 90_000)
FRAGMENT_S = 2.0  # a fragment is written when the next one begins: what is lost where a file is never closed
BT709 = 1  # matrix, primaries and transfer of ITU-R BT.709 have the same number in H.264


class VideoWriter:
    """An H.264 MP4 of pictures of one size, in fragments, so that a file that was never closed still plays.

    Odd sizes are made even by repeating the last row or column, as 4:2:0 needs it. Raises SourceError where the
    file cannot be written.
    """

    def __init__(self, path: str | Path, size_wh: tuple[int, int], fps: float) -> None:
        self._size_wh = size_wh
        self._period = round(1 / (fps * TIME_BASE))
        self._next_pts = 0
        options = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "flush_packets": "1"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        try:
            self._stream = self._h264(Fraction(fps).limit_denominator(100_000))
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as error:
            self._container.close()
            raise SourceError(f"{path}: cannot be written: {error}") from None

    def _h264(self, rate: Fraction) -> VideoStream:
        options = {"crf": "20", "preset": "veryfast", "bf": "0"}  # no B frames: the first picture is at time 0
        stream = self._container.add_stream("libx264", rate, options)
        stream.width, stream.height = (side + side % 2 for side in self._size_wh)
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.time_base = TIME_BASE
        context.gop_size = max(1, round(FRAGMENT_S * rate))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        return stream

    def write(self, rgb_hwc: U8, time_s: float | None = None) -> None:
        """Append a picture, uint8 [h, w, 3]: `time_s` after the first one, or one period after the last."""
        if (rgb_hwc.shape[1], rgb_hwc.shape[0]) != self._size_wh:
            raise ValueError(f"a picture of {rgb_hwc.shape[1]}x{rgb_hwc.shape[0]} in a video of {self._size_wh}")
        odd_h, odd_w = rgb_hwc.shape[0] % 2, rgb_hwc.shape[1] % 2
        even_hwc = np.pad(rgb_hwc, ((0, odd_h), (0, odd_w), (0, 0)), "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even_hwc), "rgb24").reformat(
            format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
        )
        wanted = self._next_pts if time_s is None else round(time_s / TIME_BASE)
        frame.pts = max(wanted, self._next_pts - self._period + 1)  # the encoder wants them to rise
        frame.time_base = TIME_BASE
        self._next_pts = frame.pts + self._period
        self._container.mux(self._stream.encode(frame))

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
