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


def problems_here(config: StreamConfig) -> Iterator[str]:
    """What would keep the stream from its first frame on this machine, now; each begins with its key.

    Devices and servers are not asked: they may come later, and streams wait for them.
    """
    try:
        format_of(config)
    except SourceError:
        yield f"format: FFmpeg has no input format {config.format!r}"
        return
    yield from _address_problems(config)
    yield from _credential_problems(config)


def _address_problems(config: StreamConfig) -> Iterator[str]:
    if config.format in _GENERATED or urls.is_live(config):
        return
    if unknown_scheme(config.url):
        yield f"url: FFmpeg knows no protocol {urls.scheme(config.url)}://"
        return
    path = urls.local_path(config.url)
    problem = None if path is None else _path_problem(path)
    if problem is not None:
        yield f"url: {problem}"


def _path_problem(path: Path) -> str | None:
    if not path.exists():
        return f"{path}: no such file or folder{_meant(path)}"
    if not os.access(path, os.R_OK):
        return f"{path}: this user may not read it"
    if path.is_dir():
        try:
            listing_of(path)
        except SourceError as error:
            return str(error)
    return None


def _meant(path: Path) -> str:
    """What was probably meant by a relative path that is not there."""
    if str(path).isdecimal():
        return f"; a camera of this machine is /dev/video{path}"
    if len(path.parts) > 1 and _HOST.fullmatch(path.parts[0]):
        return f"; a camera's address has a scheme, like rtsp://{path}"
    return ""


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
