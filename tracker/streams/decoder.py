"""Video by PyAV: files, cameras, devices."""

import os
import time
from collections.abc import Iterator
from itertools import chain
from typing import Any, Self

import av

from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.images.limits import MAX_PIXELS, oversize
from tracker.streams import opening, reasons, tracks, urls
from tracker.streams.opening import Admitted
from tracker.streams.pacing import RateCap
from tracker.streams.picture import Converter, Misconfigured, Picture
from tracker.streams.pieces import Joiner
from tracker.streams.times import Times

OPEN_TIMEOUT_S = 5.0
# For a file to be opened, and for each of its packets: zeros have none, and FFmpeg would collect all of them.
FILE_TIMEOUT_S = 10.0
DECODER_THREADS = 4  # per source; FFmpeg's own choice is one for every core of the machine
# FFmpeg would play a text file as a terminal recording.
_TEXT_FORMATS = {"tty", "bin", "xbin", "adf", "idf"}

_Packet = Any  # av.Packet[av.VideoStream], whose stubs know only streams of any kind


class VideoSource:
    """One container, opened. Raises SourceError where it cannot be opened or has no picture that can be decoded.

    `read_timeout_s`: how long a camera may give no picture before it is given up. `admitted`: what a client's
    source may open; the configuration's own may open all that it names.
    """

    def __init__(
        self, config: StreamConfig, read_timeout_s: float = OPEN_TIMEOUT_S, *, admitted: Admitted | None = None
    ) -> None:
        self._admitted = admitted
        self._where = urls.redacted(config.url)
        self._config = config
        self._converter = Converter(config.size)
        self.lost = 0
        self._read = 0  # packets
        self.live = urls.is_live(config)
        self._pictures: Iterator[Picture | None] = iter(())
        self._first: Picture | None = None
        self._has_sent = False  # a picture, whatever became of it
        self._timeout_s = OPEN_TIMEOUT_S
        self._started_s: float | None = time.monotonic()  # while it opens
        # For a client's file: whoever opens what it names. Cameras name nothing, by the formats admitted.
        is_clients_file = admitted is not None and urls.local_path(config.url) is not None
        self._files = opening.AdmittedFiles(admitted) if admitted is not None and is_clients_file else None
        try:
            self._container = self._opened(read_timeout_s)
        except BaseException:
            self._close_files()
            raise
        self._timeout_s = read_timeout_s
        self._started_s = None
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _opened(self, read_timeout_s: float) -> "av.container.InputContainer":
        url = urls.for_ffmpeg(urls.with_credentials(self._config))
        hwaccel, self.notice = opening.hwaccel_of(self._config)
        try:
            return av.open(
                url,
                format=opening.format_of(self._config),
                options=opening.options_of(self._config, self.live, for_client=self._admitted is not None),
                io_open=None if self._files is None else self._files.open,
                timeout=(OPEN_TIMEOUT_S, read_timeout_s) if self.live else FILE_TIMEOUT_S,
                hwaccel=hwaccel,
                metadata_errors="replace",
            )
        except opening.NotAdmitted as error:
            raise self._not_admitted(error) from None
        except (av.FFmpegError, OSError, ValueError) as error:
            if urls.is_empty_file(self._config.url):
                raise SourceError(f"{self._where}: is empty") from None
            unfinished = reasons.unfinished(urls.local_path(self._config.url))
            if unfinished and isinstance(error, av.error.InvalidDataError):
                raise SourceError(f"{self._where}: {unfinished}") from None
            if self._admitted is not None and isinstance(error, av.error.ArgumentError):
                raise Misconfigured(f"{self._where}: {reasons.no_argument(self._config.options)}") from None
            raise self._error(error) from None

    def _start(self) -> None:
        if self._container.format.name in _TEXT_FORMATS:
            raise SourceError(f"{self._where}: is text, not video")
        if urls.scheme(self._config.url) in ("http", "https") and self._container.duration:
            self.live = False  # a file on a web server
        self._tracks = tracks.video_tracks(self._container)
        if not self._tracks:
            unfinished = reasons.unfinished(urls.local_path(self._config.url))
            raise SourceError(f"{self._where}: {unfinished or reasons.no_video(self._container)}")
        self._show(self._tracks[0])
        # Where a camera does not say how large its tracks are, the one that sends first is shown.
        self._decided = not self.live or len(self._tracks) == 1 or tracks.is_known(self._stream)
        if self._decided:
            tracks.discard_others(self._container, self._stream)
        self.fps = tracks.nominal_fps(self._stream, self._config.fps)
        counts = not self.live and not self._config.fps
        self.estimate = tracks.estimated_length(self._container, self._stream) if counts else None
        self._pictures = self._converted()
        self._first = next((picture for picture in self._pictures if picture), None)
        if self._first is None:
            raise SourceError(f"{self._where}: {reasons.no_picture(self._container)}")
        self._has_sent = True
        self.size_wh = self._first.image.size_wh
        shown_wh = self._config.size and self.size_wh
        self.pixel_aspect = tracks.pixel_aspect(self._stream, shown_wh, transposed=self._converter.transposes)

    def _show(self, track: tracks.VideoTrack) -> None:
        """Take a track, and prepare its decoder."""
        context = track.codec_context
        if problem := oversize((context.width, context.height)):
            raise SourceError(f"{self._where}: {problem}")
        self._stream = track
        # A later picture may be larger than the first; and the left side is cropped to the pixel.
        context.options = {"max_pixels": str(MAX_PIXELS), "flags": "+unaligned"}
        track.thread_type = "SLICE" if self.live else "AUTO"  # FRAME adds a frame of delay per thread
        track.thread_count = min(DECODER_THREADS, os.cpu_count() or 1)
        self._joiner = None
        if self.live and context.name == "h264":
            # With threads FFmpeg neither conceals what is missing nor says that it is.
            track.thread_count = 1
            self._joiner = Joiner()
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

    def most_frames(self) -> int:
        """Counted by a file's packets, of which each gives one at most."""
        try:
            for _ in self._demuxed():
                pass
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._error(error) from None
        return self._read

    def close(self) -> None:
        # The generator holds this object and this object holds it: without the first line the decoder's threads
        # would live until the garbage collector finds the circle.
        self._pictures, self._first = iter(()), None
        self._container.close()
        self._close_files()

    def _close_files(self) -> None:
        if self._files is not None:
            self._files.close()

    def _converted(self) -> Iterator[Picture | None]:
        cap, times = RateCap(self._config.fps), Times()
        for frame in self._decoded():
            ticks = times.take(frame.pts, frame.dts, frame.duration)
            time_s = float(ticks * frame.time_base) if ticks is not None and frame.time_base else None
            # A camera's own clock may stand still or leap; a file's is all there is, and what has no time is kept.
            at_s = time.monotonic() if self.live else time_s
            if at_s is not None and not cap.take(at_s):
                yield None
                continue
            try:
                image = self._converter.convert(frame)
            except (av.FFmpegError, ValueError):  # damaged data can announce a picture that nobody can convert
                self.lost += 1
                continue
            yield Picture(image, time_s, self._camera_time(frame), corrupt=bool(frame.is_corrupt))

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
        except opening.NotAdmitted as error:
            raise self._not_admitted(error) from None
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
        """The track's packets; None for one of another track, or a piece that waits for the rest of its picture, so
        that the caller's clock is looked at.

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
            elif not self._is_shown(packet):
                yield None
            else:
                yield from [packet] if self._joiner is None else self._joiner.take(packet) or [None]
            asked_s = time.monotonic()

    def _demuxed(self) -> "Iterator[_Packet]":
        """What the container gives: of a camera every track, since a call for one would not return for others."""
        wanted = [] if self.live else [self._stream]
        while True:
            try:
                for packet in self._container.demux(*wanted):
                    self._read += packet.size > 0
                    yield packet
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

    def _not_admitted(self, error: opening.NotAdmitted) -> Misconfigured:
        return Misconfigured(f"{self._where}: names {error}")

    def _error(self, error: Exception) -> SourceError:
        """What went wrong, in words, without the URL that FFmpeg puts into its text."""
        kind = Misconfigured if isinstance(error, reasons.HOPELESS) else SourceError
        return kind(f"{self._where}: {self._reason(error)}")

    def _reason(self, error: Exception) -> str:
        opening = self._started_s is not None
        silent = self._started_s is not None and time.monotonic() - self._started_s >= self._timeout_s
        if reasons.timed_out(error) or (self.live and silent and reasons.may_be_silence(error)):
            said = "no answer" if opening or self._has_sent else "it answers, but sent no picture"
            return f"{said} within {self._timeout_s:g} s"
        return reasons.network_reason(error, opening=opening) if self.live else reasons.reason(error)
