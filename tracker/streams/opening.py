"""What FFmpeg is told when it opens a source."""

from collections.abc import Callable
from functools import cache
from typing import BinaryIO

import av
from av.codec.hwaccel import HWAccel

from tracker.config import StreamConfig
from tracker.images.limits import MAX_PIXELS
from tracker.streams import urls
from tracker.streams.picture import Misconfigured

# Without these a camera's first picture takes seconds: FFmpeg would watch the stream first.
_FAST_START = {"fpsprobesize": "0", "analyzeduration": "1"}
# These open further files or hosts by themselves, which no pattern of `control.allow_sources` admitted. Of HLS on
# this machine each file is asked for: see `AdmittedFiles`.
_PLAYLISTS = {
    "hls",
    "dash",
    "concat",
    "concatf",
    "imf",
    "sdp",
    "webm_dash_manifest",
    "avisynth",
    "vapoursynth",
    "lavfi",
}
Admitted = Callable[[str], bool]  # whether a client may have a URL opened
_HWACCELS = {"auto": ("cuda", "vaapi"), "cuda": ("cuda",), "vaapi": ("vaapi",), "none": ()}


class NotAdmitted(Exception):
    """A source names a file that is not opened; the text is its name, and why."""


def format_of(config: StreamConfig) -> str | None:
    """The input format; None where FFmpeg is to find it out. Raises Misconfigured for one that it lacks."""
    name = config.format
    if name is None:
        return "v4l2" if config.url.startswith("/dev/video") else None
    try:
        av.ContainerFormat(name, "r")
    except ValueError:
        raise Misconfigured(f"{urls.redacted(config.url)}: FFmpeg has no input format {name!r}") from None
    return name


@cache
def _formats_of_clients(*, local: bool) -> str:
    """Input formats that open nothing but what they are given and admitted, as FFmpeg's `format_whitelist` wants
    them."""
    refused = _PLAYLISTS - ({"hls"} if local else set())
    return ",".join(sorted(name for name in av.formats_available if not refused & set(name.split(","))))


class AdmittedFiles:
    """Opens the files of this machine that FFmpeg wants for one source, or refuses to; PyAV leaves the first one
    open."""

    def __init__(self, admitted: Admitted) -> None:
        self._admitted = admitted
        self._files: list[BinaryIO] = []

    def open(self, url: str, _flags: int, _options: dict[str, str]) -> BinaryIO:
        """PyAV's `io_open`. Raises NotAdmitted."""
        path = urls.local_path(url)
        if path is None or not self._admitted(url):
            raise NotAdmitted(f"{urls.redacted(url)}, which no pattern of control.allow_sources matches")
        if path.exists() and not path.is_file():  # one that is no file could make the thread wait for ever
            raise NotAdmitted(f"{urls.redacted(url)}, which is no file, but a pipe, a socket, a device or a folder")
        file = path.open("rb")
        self._files = [other for other in self._files if not other.closed] + [file]
        return file

    def close(self) -> None:
        for file in self._files:
            file.close()


def options_of(config: StreamConfig, live: bool, *, for_client: bool = False) -> dict[str, str]:
    """Options of demuxer and decoder; the configuration's own come last. For a client, formats that open other
    files or hosts by themselves are not opened."""
    ours = {"max_pixels": str(MAX_PIXELS)}  # for the pictures that FFmpeg decodes to find out what is there
    if live:
        ours |= _FAST_START
    if urls.scheme(config.url) in ("rtsp", "rtsps"):
        ours["rtsp_transport"] = config.transport
        # Sound and metadata are not asked for: a camera may refuse them (an audio back channel: 406), and what goes
        # on arriving would hide that the pictures have stopped.
        ours["allowed_media_types"] = "video"
    local = urls.local_path(config.url) is not None
    return ours | config.options | ({"format_whitelist": _formats_of_clients(local=local)} if for_client else {})


def hwaccel_of(config: StreamConfig) -> tuple[HWAccel | None, str | None]:
    """The first wanted decoder device that is here; where none is, None and a line that says why."""
    problems = []
    for kind in _HWACCELS[config.hwaccel]:
        try:
            HWAccel(kind).create(av.Codec("h264", "r"))
        except (av.FFmpegError, OSError, NotImplementedError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not in this build of FFmpeg"
            problems.append(f"{kind}: {reason}")
        else:
            return HWAccel(kind), None
    if not problems:
        return None, None
    return None, f"hwaccel: no such device here ({'; '.join(problems)}); decoding on the CPU"


def unknown_scheme(url: str) -> bool:
    """Whether FFmpeg has no protocol for the URL. An empty address is opened to find out: nobody is reached."""
    name = urls.scheme(url)
    if name is None or urls.is_network(name):
        return False
    try:
        av.open(f"{name}:").close()
    except (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError):
        return True
    except (av.FFmpegError, OSError, ValueError):
        return False
    return False
