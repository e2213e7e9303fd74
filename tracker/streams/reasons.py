"""FFmpeg's errors in words for people."""

import errno
from collections.abc import Collection
from pathlib import Path

import av

from tracker.images.limits import MAX_PIXELS

HOPELESS = (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError, av.error.OptionNotFoundError)
_TEXTS: dict[type[Exception], str] = {
    ConnectionRefusedError: "connection refused: nothing listens there",
    av.error.HTTPUnauthorizedError: "the user name or password is wrong (401)",
    av.error.HTTPForbiddenError: "this user may not see it (403)",
    av.error.HTTPNotFoundError: "the server has no such path (404)",
    av.error.HTTPBadRequestError: "the server does not understand what it is asked (400)",
    av.error.HTTPOtherClientError: "the server refuses it (4xx)",
    av.error.HTTPServerError: "the server failed (5xx)",
    av.error.ProtocolNotFoundError: "FFmpeg knows no such protocol",
    FileNotFoundError: "no such file or device",
    PermissionError: "this user may not read it",
    IsADirectoryError: "is a folder",
    av.error.EOFError: "ends before any picture",
    av.error.InvalidDataError: "is not video that FFmpeg can read",
}
UNFINISHED = (
    "is an MP4 without its index (moov), which is written last: its recording was cut off, or still goes on. "
    "A tool like untrunc can mend it after a whole film of the same camera; "
    "MKV and fragmented MP4 can be read up to where they were cut"
)
MAX_BOXES = 1000  # that are looked at
_INDICES = {b"moov", b"meta"}  # of films, and of pictures
_FIRST_BOXES = {b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"}


def timed_out(error: Exception) -> bool:
    return isinstance(error, (av.error.ExitError, TimeoutError))


def may_be_silence(error: Exception) -> bool:
    """FFmpeg reports an RTSP server that never answers as invalid data; one that does not answer PLAY as -1, which
    is EPERM."""
    return isinstance(error, av.error.InvalidDataError) or _is_minus_one(error)


def _is_minus_one(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPERM


def reason(error: Exception) -> str:
    """What went wrong, without the URL that FFmpeg puts into its text."""
    for type_, text in _TEXTS.items():
        if isinstance(error, type_):
            return text
    return str(getattr(error, "strerror", None) or type(error).__name__)


def network_reason(error: Exception, *, opening: bool) -> str:
    """What went wrong on the way to a camera."""
    if (isinstance(error, OSError) and error.errno == errno.EIO) or _is_minus_one(error):
        return "cannot be reached" if opening else "the connection broke"
    if isinstance(error, av.error.InvalidDataError) and opening:
        return "what answers there sends no video that FFmpeg can read: another port or path?"
    return reason(error)


def no_video(container: av.container.InputContainer) -> str:
    # What FFmpeg calls video here is a song's cover.
    kinds = sorted({"a cover" if stream.type == "video" else stream.type for stream in container.streams})
    return f"holds no video, only {', '.join(kinds)}" if kinds else "holds no video"


def unfinished(path: Path | None) -> str | None:
    """What to say of an MP4 or MOV that lacks its index, or the end of it: FFmpeg finds nothing in it."""
    try:
        whole = path is None or not path.is_file() or _has_index(path)
    except OSError:
        return None
    return None if whole else UNFINISHED


def _has_index(path: Path) -> bool:
    """Whether the file's box `moov` is all there (ISO/IEC 14496-12, 4.2); of what is no film, True."""
    end, length, first = 0, path.stat().st_size, True
    with path.open("rb") as file:
        for _ in range(MAX_BOXES):
            file.seek(end)
            header = file.read(16)
            size, long_size = int.from_bytes(header[:4]), int.from_bytes(header[8:])
            kind = header[4:8]
            if first and kind not in _FIRST_BOXES:
                return True
            first = False
            end += {0: length - end, 1: long_size}.get(size, size)
            if kind in _INDICES:
                return end <= length
            if end >= length or size in range(2, 8):
                return False
    return True


def no_picture(container: av.container.InputContainer) -> str:
    if container.format.name == "webp_pipe":
        return "is no WebP that can be decoded; an animated one is not: make it a video or a folder of pictures"
    return f"holds no picture that can be decoded: it is damaged, or of more than {MAX_PIXELS} pixels"


def no_argument(options: Collection[str]) -> str:
    """FFmpeg says one thing of formats that are not allowed and of values that it does not know."""
    playlists = (
        "playlists, which name other files or hosts, are for the configuration file "
        "(but HLS in files of this machine, each of them admitted)"
    )
    if not options:
        return f"is no video by itself; {playlists}"
    names = ", ".join(sorted(options))
    return f"options: FFmpeg does not take a value of {names}; or it is no video by itself: {playlists}"
