"""FFmpeg's errors in words for people."""

import errno

import av

HOPELESS = (av.error.ProtocolNotFoundError, av.error.DemuxerNotFoundError, av.error.OptionNotFoundError)
_TEXTS: dict[type[Exception], str] = {
    ConnectionRefusedError: "connection refused: nothing listens there",
    av.error.HTTPUnauthorizedError: "the user name or password is wrong (401)",
    av.error.HTTPForbiddenError: "this user may not see it (403)",
    av.error.HTTPNotFoundError: "the server has no such path (404)",
    av.error.ProtocolNotFoundError: "FFmpeg knows no such protocol",
    FileNotFoundError: "no such file or device",
    PermissionError: "this user may not read it",
    IsADirectoryError: "is a folder",
    av.error.EOFError: "ends before any picture",
    av.error.InvalidDataError: "is not video that FFmpeg can read",
}


def timed_out(error: Exception) -> bool:
    return isinstance(error, (av.error.ExitError, TimeoutError))


def reason(error: Exception) -> str:
    """What went wrong, without the URL that FFmpeg puts into its text."""
    for type_, text in _TEXTS.items():
        if isinstance(error, type_):
            return text
    return str(getattr(error, "strerror", None) or type(error).__name__)


def network_reason(error: Exception, *, opening: bool) -> str:
    """What went wrong on the way to a camera."""
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return "cannot be reached" if opening else "the connection broke"
    return reason(error)
