"""Video by PyAV: files, cameras, devices."""

import errno
import os
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Self

import av
from av.codec.context import Flags2
from av.codec.hwaccel import HWAccel

from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.streams import urls
from tracker.streams.pacing import RateCap
from tracker.streams.picture import Converter, Misconfigured, Picture

OPEN_TIMEOUT_S = 5.0
DECODER_THREADS = 4  # per source; FFmpeg's own choice is one for every core of the machine
# FFmpeg would play a text file as a terminal recording.
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}
# Without these a camera's first picture takes seconds: FFmpeg would watch the stream first.
_FAST_START = {"fpsprobesize": "0", "analyzeduration": "1"}
_HWACCELS = {"auto": ("cuda", "vaapi"), "cuda": ("cuda",), "vaapi": ("vaapi",), "none": ()}


class VideoSource:
    """One container, opened. Raises SourceError where it cannot be opened or has no picture that can be decoded.

    `read_timeout_s`: how long a camera may be silent before it is given up.
    """

    def __init__(self, config: StreamConfig, read_timeout_s: float | None = None) -> None:
        self._where = urls.redacted(config.url)
        self._config = config
        self._converter = Converter(config.size)
        self.lost = 0
        self.notice: str | None = None
        self.live = urls.is_live(config)
        url = urls.with_credentials(config)
        self._pictures: Iterator[Picture] = iter(())
        self._first: Picture | None = None
        hwaccel = self._hwaccel()
        self._timeout_s = OPEN_TIMEOUT_S
        self._started_s: float | None = time.monotonic()  # while it opens
        try:
            self._container = av.open(
                urls.for_ffmpeg(url),
                format=self._format(),
                options=self._options(),
                timeout=(OPEN_TIMEOUT_S, read_timeout_s) if self.live else None,
                hwaccel=hwaccel,
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None
        self._timeout_s, self._started_s = read_timeout_s or OPEN_TIMEOUT_S, None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        self._stream = self._video_stream()
        if urls.scheme(self._config.url) in ("http", "https") and self._container.duration:
            self.live = False  # a file on a web server
        self._stream.thread_type = "SLICE" if self.live else "AUTO"  # FRAME adds a frame of delay per thread
        self._stream.thread_count = min(DECODER_THREADS, os.cpu_count() or 1)
        if self.live:
            # Some cameras (and GStreamer with `config-interval=-1`) send parameter sets before every slice of a
            # keyframe. FFmpeg's parser then cuts the picture in two, and without this flag the decoder shows each
            # part as a picture, the rest of it green, and every picture up to the next keyframe is built on that.
            self._stream.codec_context.flags2 |= Flags2.chunks
        if self._config.hwaccel != "none" and not self.notice and not self._stream.codec_context.is_hwaccel:
            self.notice = f"hwaccel: {self._stream.codec_context.name} has no decoder there; decoding on the CPU"
        self.fps = self._nominal_fps()
        self.length = self._length()
        self._pictures = self._converted()
        self._first = next(self._pictures, None)
        if self._first is None:
            raise SourceError(f"{self._where}: has no picture that can be decoded")
        self.size_wh = self._first.image.size_wh

    def __iter__(self) -> Iterator[Picture]:
        assert self._first is not None
        first, self._first = self._first, None
        return chain([first], self._pictures)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        # The generator holds this object and this object holds it: without the first line the decoder's threads
        # would live until the garbage collector finds the circle.
        self._pictures, self._first = iter(()), None
        self._container.close()

    def _format(self) -> str | None:
        name = self._config.format
        if name is None:
            return "v4l2" if self._config.url.startswith("/dev/video") else None
        try:
            av.ContainerFormat(name, "r")
        except ValueError:
            raise Misconfigured(f"{self._where}: FFmpeg has no input format {name!r}") from None
        return name

    def _options(self) -> dict[str, str]:
        ours: dict[str, str] = {}
        if self.live:
            ours |= _FAST_START
        if self._config.url.lower().startswith(("rtsp:", "rtsps:")):
            ours["rtsp_transport"] = self._config.transport
        return ours | self._config.options

    def _hwaccel(self) -> HWAccel | None:
        """The first decoder device that is here; where one was wanted and none is, `notice` says so."""
        reasons = []
        for kind in _HWACCELS[self._config.hwaccel]:
            try:
                HWAccel(kind).create(av.Codec("h264", "r"))
                return HWAccel(kind)
            except (av.FFmpegError, OSError, NotImplementedError, ValueError) as error:
                reasons.append(f"{kind}: {getattr(error, 'strerror', None) or 'not in this build of FFmpeg'}")
        if reasons:
            self.notice = f"hwaccel: no such device here ({'; '.join(reasons)}); decoding on the CPU"
        return None

    def _video_stream(self) -> Any:
        if self._container.format.name in _TEXT_FORMATS:
            raise SourceError(f"{self._where}: is text, not video")
        for stream in self._container.streams.video:
            if not stream.disposition & av.stream.Disposition.attached_pic:
                return stream
        kinds = sorted({stream.type for stream in self._container.streams})
        raise SourceError(f"{self._where}: holds no video" + (f", only {', '.join(kinds)}" if kinds else ""))

    def _nominal_fps(self) -> float | None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        fps = float(rate) if rate and rate <= 1000 else None  # some cameras announce their clock's rate
        if fps and self._config.fps:
            return min(fps, self._config.fps)
        return fps or self._config.fps

    def _length(self) -> int | None:
        if self.live or self._config.fps:
            return None
        if self._stream.frames:
            return int(self._stream.frames)
        if self._container.duration and self.fps:
            return round(self._container.duration / 1e6 * self.fps)
        return None

    def _converted(self) -> Iterator[Picture]:
        wanted = RateCap(self._config.fps)
        for frame in self._decoded():
            if not wanted.take(frame.time if frame.time is not None else time.monotonic()):
                continue
            try:
                image = self._converter.convert(frame)
            except (av.FFmpegError, ValueError):  # damaged data can announce a picture that nobody can convert
                self.lost += 1
                continue
            yield Picture(image, frame.time, self._camera_time(frame), corrupt=bool(frame.is_corrupt))

    def _decoded(self) -> Iterator[av.VideoFrame]:
        last_ns = time.monotonic_ns()
        try:
            for packet in self._packets():
                try:
                    for frame in packet.decode():
                        last_ns = time.monotonic_ns()
                        yield frame
                except av.FFmpegError:
                    self.lost += 1
                if self.live and time.monotonic_ns() - last_ns > self._timeout_s * 1e9:
                    raise SourceError(f"{self._where}: sends data, but no picture for {self._timeout_s:g} s")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None

    def _packets(self) -> "Iterator[av.Packet[Any]]":
        """What the container gives. When a camera falls silent, FFmpeg's parser hands out the picture that it held
        back only as the read times out: that one is seconds old, and is not shown as if it were new."""
        while True:
            asked_s = time.monotonic()
            try:
                for packet in self._container.demux(self._stream):
                    if self.live and time.monotonic() - asked_s >= self._timeout_s:
                        raise TimeoutError
                    yield packet
                    asked_s = time.monotonic()
                return
            except IndexError:  # PyAV, where damaged data announces a stream that is not there
                self.lost += 1

    def _camera_time(self, frame: av.VideoFrame) -> float | None:
        start_us = self._container.start_time_realtime if self.live else None
        return start_us / 1e6 + frame.time if start_us and frame.time is not None else None

    def _error(self, error: Exception) -> SourceError:
        """What went wrong, in words, without the URL that FFmpeg puts into its text."""
        kind = Misconfigured if isinstance(error, _HOPELESS) else SourceError
        return kind(f"{self._where}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        # FFmpeg reports an RTSP server that never answers as invalid data.
        silent = self._started_s is not None and time.monotonic() - self._started_s >= self._timeout_s
        timed_out = isinstance(error, (av.error.ExitError, TimeoutError))
        if self.live and (timed_out or (silent and isinstance(error, av.error.InvalidDataError))):
            return f"no answer within {self._timeout_s:g} s"
        if self.live and isinstance(error, OSError) and error.errno == errno.EIO:
            return "cannot be reached" if self._started_s is not None else "the connection broke"
        for type_, text in _REASONS.items():
            if isinstance(error, type_):
                return text
        return str(getattr(error, "strerror", None) or type(error).__name__)


_HOPELESS = (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError, av.error.OptionNotFoundError)
_REASONS: dict[type[Exception], str] = {
    ConnectionRefusedError: "connection refused: nothing listens there",
    av.error.HTTPUnauthorizedError: "the user name or password is wrong (401)",
    av.error.HTTPForbiddenError: "this user may not see it (403)",
    av.error.HTTPNotFoundError: "the server has no such path (404)",
    av.error.ProtocolNotFoundError: "FFmpeg knows no such protocol",
    FileNotFoundError: "no such file or device",
    IsADirectoryError: "is a folder",
    av.error.InvalidDataError: "is not video that FFmpeg can read",
}
