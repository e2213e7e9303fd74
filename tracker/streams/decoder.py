"""Video by PyAV: files, cameras, devices."""

import os
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import Any, Self

import av
from av.codec.context import Flags2

from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.images.limits import MAX_PIXELS, oversize
from tracker.streams import opening, reasons, tracks, urls
from tracker.streams.pacing import RateCap
from tracker.streams.picture import Converter, Misconfigured, Picture

OPEN_TIMEOUT_S = 5.0
# For a file to be opened, and for each of its packets: zeros have none, and FFmpeg would collect all of them.
FILE_TIMEOUT_S = 10.0
DECODER_THREADS = 4  # per source; FFmpeg's own choice is one for every core of the machine
# FFmpeg would play a text file as a terminal recording.
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}

_Packet = Any  # av.Packet[av.VideoStream], whose stubs know only streams of any kind


class VideoSource:
    """One container, opened. Raises SourceError where it cannot be opened or has no picture that can be decoded.

    `read_timeout_s`: how long a camera may give no picture before it is given up. `playlists`: whether what names
    other files or hosts may be opened.
    """

    def __init__(
        self, config: StreamConfig, read_timeout_s: float | None = None, *, playlists: bool = True
    ) -> None:
        self._playlists = playlists
        self._where = urls.redacted(config.url)
        self._config = config
        self._converter = Converter(config.size)
        self.lost = 0
        self.length: int | None = None  # only the end of decoding tells
        self.live = urls.is_live(config)
        self._pictures: Iterator[Picture | None] = iter(())
        self._first: Picture | None = None
        self._timeout_s = OPEN_TIMEOUT_S
        self._started_s: float | None = time.monotonic()  # while it opens
        self._container = self._opened(read_timeout_s)
        self._timeout_s = read_timeout_s or OPEN_TIMEOUT_S
        self._started_s = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _opened(self, read_timeout_s: float | None) -> "av.container.InputContainer":
        url = urls.for_ffmpeg(urls.with_credentials(self._config))
        hwaccel, self.notice = opening.hwaccel_of(self._config)
        try:
            return av.open(
                url,
                format=opening.format_of(self._config),
                options=opening.options_of(self._config, self.live, self._playlists),
                timeout=(OPEN_TIMEOUT_S, read_timeout_s) if self.live else FILE_TIMEOUT_S,
                hwaccel=hwaccel,
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            if not self._playlists and isinstance(error, av.error.ArgumentError):
                raise Misconfigured(f"{self._where}: {self._no_argument()}") from None
            raise self._error(error) from None

    def _start(self) -> None:
        if self._container.format.name in _TEXT_FORMATS:
            raise SourceError(f"{self._where}: is text, not video")
        if urls.scheme(self._config.url) in ("http", "https") and self._container.duration:
            self.live = False  # a file on a web server
        self._tracks = tracks.video_tracks(self._container)
        if not self._tracks:
            raise SourceError(f"{self._where}: {self._no_video()}")
        self._show(self._tracks[0])
        # Where a camera does not say how large its tracks are, the one that sends first is shown.
        self._decided = not self.live or len(self._tracks) == 1 or tracks.is_known(self._stream)
        if self._decided:
            tracks.discard_others(self._container, self._stream)
        self.fps = self._nominal_fps()
        self.estimate = self._estimate()
        self._pictures = self._converted()
        self._first = next((picture for picture in self._pictures if picture), None)
        if self._first is None:
            raise SourceError(f"{self._where}: {self._no_picture()}")
        self.size_wh = self._first.image.size_wh
        self.pixel_aspect = self._pixel_aspect()

    def _show(self, track: tracks.VideoTrack) -> None:
        """Take a track, and prepare its decoder."""
        context = track.codec_context
        if problem := oversize((context.width, context.height)):
            raise SourceError(f"{self._where}: {problem}")
        self._stream = track
        context.options = {"max_pixels": str(MAX_PIXELS)}  # a later picture may be larger than the first
        track.thread_type = "SLICE" if self.live else "AUTO"  # FRAME adds a frame of delay per thread
        track.thread_count = min(DECODER_THREADS, os.cpu_count() or 1)
        if self.live:
            # Some cameras (and GStreamer with `config-interval=-1`) send parameter sets before every slice of a
            # keyframe. FFmpeg's parser then cuts the picture in two, and without this flag the decoder shows each
            # part as a picture, the rest of it green, and every picture up to the next keyframe is built on that.
            context.flags2 |= Flags2.chunks
        if self._config.hwaccel != "none" and not self.notice and not context.is_hwaccel:
            self.notice = f"hwaccel: {context.name} has no decoder there; decoding on the CPU"

    def __iter__(self) -> Iterator[Picture | None]:
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

    def _no_argument(self) -> str:
        """FFmpeg says one thing of formats that are not allowed and of values that it does not know."""
        playlists = "playlists, which name other files or hosts, are for the configuration file"
        if not self._config.options:
            return f"is no video by itself; {playlists}"
        names = ", ".join(sorted(self._config.options))
        return f"options: FFmpeg does not take a value of {names}; or it is no video by itself: {playlists}"

    def _no_video(self) -> str:
        kinds = sorted({stream.type for stream in self._container.streams})
        return f"holds no video, only {', '.join(kinds)}" if kinds else "holds no video"

    def _no_picture(self) -> str:
        if self._container.format.name == "webp_pipe":
            return "is no WebP that can be decoded; an animated one is not: make it a video or a folder of pictures"
        return f"holds no picture that can be decoded (of at most {MAX_PIXELS} pixels)"

    def _nominal_fps(self) -> float | None:
        rate = self._stream.average_rate or self._stream.guessed_rate
        fps = float(rate) if rate and rate <= 1000 else None  # some cameras announce their clock's rate
        if fps and self._config.fps:
            return min(fps, self._config.fps)
        return fps or self._config.fps

    def _estimate(self) -> int | None:
        if self.live or self._config.fps:
            return None
        if self._stream.frames:
            return int(self._stream.frames)
        if self._container.duration and self.fps:
            return round(self._container.duration / 1e6 * self.fps)
        return None

    def _pixel_aspect(self) -> Fraction:
        said = self._stream.sample_aspect_ratio
        aspect = Fraction(said) if said else Fraction(1)
        return 1 / aspect if self._converter.transposes else aspect

    def _converted(self) -> Iterator[Picture | None]:
        cap = RateCap(self._config.fps)
        for frame in self._decoded():
            # A camera's own clock may stand still or leap; a file's is all there is, and what has no time is kept.
            at_s = time.monotonic() if self.live else frame.time
            if at_s is not None and not cap.take(at_s):
                yield None
                continue
            try:
                image = self._converter.convert(frame)
            except (av.FFmpegError, ValueError):  # damaged data can announce a picture that nobody can convert
                self.lost += 1
                continue
            yield Picture(image, frame.time, self._camera_time(frame), corrupt=bool(frame.is_corrupt))

    def _decoded(self) -> Iterator[av.VideoFrame]:
        """All pictures of the track. A camera has `_timeout_s` for each, whatever else it sends meanwhile."""
        last_s = time.monotonic()
        try:
            for packet in self._packets():
                if packet is not None:
                    for frame in self._frames_of(packet):
                        yield frame
                        last_s = time.monotonic()
                if self.live and time.monotonic() - last_s > self._timeout_s:
                    raise SourceError(f"{self._where}: sends data, but no picture for {self._timeout_s:g} s")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None

    def _frames_of(self, packet: _Packet) -> list[av.VideoFrame]:
        try:
            frames: list[av.VideoFrame] = packet.decode()
        except av.FFmpegError:
            self.lost += 1
            return []
        return frames

    def _packets(self) -> Iterator[_Packet | None]:
        """The track's packets; None for one of another track, so that the caller's clock is looked at.

        When a camera falls silent, FFmpeg's parser hands out the picture that it held back only as the read times
        out: that one is seconds old, and is not shown as if it were new. A file that was cut off ends in half a
        picture, whose decoding would cost those that FFmpeg still holds.
        """
        cut_off: _Packet | None = None
        asked_s = time.monotonic()
        for packet in self._demuxed():
            if self.live and time.monotonic() - asked_s >= self._timeout_s:
                raise TimeoutError
            if cut_off is not None and packet.size:
                yield cut_off
            cut_off = None
            if packet.is_corrupt and not self.live:
                cut_off = packet
            else:
                yield packet if self._is_shown(packet) else None
            asked_s = time.monotonic()

    def _demuxed(self) -> "Iterator[_Packet]":
        """What the container gives: of a camera every track, since a call for one would not return for others."""
        wanted = [] if self.live else [self._stream]
        while True:
            try:
                yield from self._container.demux(*wanted)
                return
            except IndexError:  # PyAV, where damaged data announces a stream that is not there
                self.lost += 1

    def _is_shown(self, packet: _Packet) -> bool:
        if not self._decided and packet.stream in self._tracks:
            self._decided = True
            self._show(packet.stream)
        return packet.stream is self._stream

    def _camera_time(self, frame: av.VideoFrame) -> float | None:
        start_us = self._container.start_time_realtime if self.live else None
        return start_us / 1e6 + frame.time if start_us and frame.time is not None else None

    def _error(self, error: Exception) -> SourceError:
        """What went wrong, in words, without the URL that FFmpeg puts into its text."""
        kind = Misconfigured if isinstance(error, reasons.HOPELESS) else SourceError
        return kind(f"{self._where}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        opening = self._started_s is not None
        # FFmpeg reports an RTSP server that never answers as invalid data.
        silent = self._started_s is not None and time.monotonic() - self._started_s >= self._timeout_s
        if reasons.timed_out(error) or (self.live and silent and isinstance(error, av.error.InvalidDataError)):
            return f"no answer within {self._timeout_s:g} s"
        return reasons.network_reason(error, opening=opening) if self.live else reasons.reason(error)
