"""What shows of a source before it is opened: missing files and variables, unknown schemes, unreadable folders."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.streams import urls
from tracker.streams.folder import listing_of
from tracker.streams.opening import format_of, unknown_scheme

# FFmpeg's inputs whose `url` is no path: generated pictures.
_GENERATED = {"lavfi"}
_HOST = re.compile(r"[\w-]+(\.[\w-]+)+")  # cam.example, 10.0.0.7


def slips(config: StreamConfig) -> Iterator[str]:
    """What must be written otherwise before the stream can have a frame here; each begins with its key."""
    try:
        format_of(config)
    except SourceError:
        yield f"format: FFmpeg has no input format {config.format!r}"
    if config.format in _GENERATED or urls.is_live(config):
        return
    path = urls.local_path(config.url)
    if unknown_scheme(config.url):
        yield f"url: FFmpeg knows no protocol {urls.scheme(config.url)}://"
    elif path is not None and not path.exists() and (meant := _meant(path)):
        yield f"url: {path}: no such file or folder; {meant}"


def lacks(config: StreamConfig) -> Iterator[str]:
    """What the stream, rightly written, would need for its first frame and does not have now; each begins with its
    key.

    Devices and servers are not asked: they may come later, and streams wait for them.
    """
    path = urls.local_path(config.url)
    problem = None if path is None or config.format in _GENERATED or urls.is_live(config) else _path_problem(path)
    if problem is not None:
        yield f"url: {problem}"
    yield from _credential_problems(config)


def _path_problem(path: Path) -> str | None:
    if not path.exists():
        return None if _meant(path) else f"{path}: no such file or folder"
    if not os.access(path, os.R_OK):
        return f"{path}: this user may not read it"
    if path.is_dir():
        try:
            listing_of(path)
        except SourceError as error:
            return str(error)
    return None


def _meant(path: Path) -> str | None:
    """What was probably meant by a relative path that is not there."""
    if str(path).isdecimal():
        return f"a camera of this machine is /dev/video{path}"
    if len(path.parts) > 1 and _HOST.fullmatch(path.parts[0]):
        return f"a camera's address has a scheme, like rtsp://{path}"
    return None


def _credential_problems(config: StreamConfig) -> Iterator[str]:
    """Unset variables and unreadable files. A bare file name is the service manager's, which may not be here."""
    for what in ("username", "password"):
        variable, file = getattr(config, f"{what}_env"), getattr(config, f"{what}_file")
        if variable is not None and file is not None:
            continue  # one too many, which `urls.problems` says
        if file is not None and "/" not in file and "CREDENTIALS_DIRECTORY" not in os.environ:
            file = None
        try:
            urls.secret(variable, file, what)
        except SourceError as error:
            yield str(error)
