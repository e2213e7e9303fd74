"""URLs: which are cameras, how credentials get into them, how they are kept out of everything that is shown, and
which ones a client may ask for."""

import os
import re
from pathlib import Path
from urllib.parse import quote, urlsplit

from tracker.config import StreamConfig
from tracker.images.limits import oversize
from tracker.streams.picture import Misconfigured

_LIVE = {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srtp", "udp", "tcp", "srt", "rist", "mmsh", "http", "https"}
_DEVICES = {"v4l2", "video4linux2", "x11grab", "fbdev", "kmsgrab"}
CREDENTIAL_FIELDS = ("username_env", "username_file", "password_env", "password_file")
_IN_PATH = re.compile(
    r"((?:user(?:name)?|usr|pass(?:word|wd)?|pwd|token|auth|secret|key)[=:])[^/?#]*", re.IGNORECASE
)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*):", re.IGNORECASE)


def scheme(url: str) -> str | None:
    """The URL's scheme in lower case; None for a path."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else None


def local_path(url: str) -> Path | None:
    """The path of a local file or folder; None where the URL names something else."""
    if scheme(url) == "file":
        url = re.sub(r"^file:(//)?", "", url, flags=re.IGNORECASE)
    elif scheme(url) is not None:
        return None
    return Path(os.path.expanduser(url))  # noqa: PTH111, Path raises for who is not known here


def is_empty_file(url: str) -> bool:
    """Of a file of this machine that is there and has no bytes."""
    path = local_path(url)
    try:
        return path is not None and path.is_file() and path.stat().st_size == 0
    except OSError:  # a name that is too long, or a folder that this user may not look into
        return False


def is_live(config: StreamConfig) -> bool:
    """Whether the source goes on by itself: a camera, not a file. (HTTP may turn out to serve a file.)"""
    if config.format in _DEVICES or config.url.startswith("/dev/video"):
        return True
    return scheme(config.url) in _LIVE


def is_network(scheme: str) -> bool:
    """Whether a scheme is one of those that cameras are reached by."""
    return scheme in _LIVE


def for_ffmpeg(url: str) -> str:
    """A file's path; else the URL with its scheme in the lower case that FFmpeg knows alone."""
    path = local_path(url)
    if path is not None:
        return str(path)
    return _SCHEME.sub(lambda match: match[0].lower(), url) if scheme(url) in _LIVE else url


def redacted(url: str) -> str:
    """The URL as it may be shown: no user, no password, no query, and none of these in its path, where some cameras
    want them (`/user=admin_password=…`).

    A password with an unescaped `/`, `?` or `@` makes a URL that cannot be read for certain: then all before the
    last `@` is left out.
    """
    head, separator, rest = url.partition("://")
    if not separator:
        return url
    userinfo, at, after = rest.rpartition("@")
    if at and re.search("[/?#@]", userinfo):
        after = f"…@{after}"
    after = _IN_PATH.sub(r"\1…", after)
    return head + separator + re.sub(r"\?.*", "?…", after, flags=re.DOTALL)


def with_credentials(config: StreamConfig) -> str:
    """The URL to open, with the user name and password that the config points at, percent-encoded.

    Raises Misconfigured where a variable or file is missing.
    """
    username = secret(config.username_env, config.username_file, "username")
    password = secret(config.password_env, config.password_file, "password")
    if username is None and password is None:
        return config.url
    try:
        parts = urlsplit(config.url)
    except ValueError:
        raise Misconfigured(f"{redacted(config.url)}: is no URL; one is like rtsp://camera.local/live") from None
    if not parts.netloc:
        raise Misconfigured(f"{redacted(config.url)}: a user name and password need a URL with a host")
    host = parts.netloc.rpartition("@")[2]
    user = quote(username, safe="") if username is not None else parts.username or ""
    after_user = f":{quote(password, safe='')}" if password is not None else ""
    return parts._replace(netloc=f"{user}{after_user}@{host}").geturl()


def problems(config: StreamConfig) -> list[str]:
    """What is wrong with a source's settings, as far as shows without opening it; each begins with its key."""
    found = [
        f"{what}_env: is set beside {what}_file; one of them is enough"
        for what in ("username", "password")
        if getattr(config, f"{what}_env") is not None and getattr(config, f"{what}_file") is not None
    ]
    if config.loop and is_live(config) and scheme(config.url) not in ("http", "https"):
        found.append("loop: is for files; a camera has no end to begin again at: leave it out")
    if config.size is not None and (problem := oversize(config.size)):
        found.append(f"size: {problem}")
    if problem := _port_problem(config.url):
        found.append(f"url: {problem}")
    if config.pace == "all" and is_live(config):
        found.append("pace: all is for files; a camera does not wait: use real")
    wants_credentials = any(getattr(config, field) is not None for field in CREDENTIAL_FIELDS)
    if wants_credentials and "://" not in config.url:
        found.append("url: a user name and password need a URL with a host")
    return found


def _port_problem(url: str) -> str | None:
    """What is wrong with a URL's port. It stays unsaid: it may be part of a password."""
    _, separator, rest = url.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    port = re.search(r":([^\]:]+)\Z", host)
    if not separator or port is None:
        return None
    if port[1].isdecimal() and port[1].isascii():
        return "its port is beyond 65535, which is the last there is" if int(port[1][:6]) > 65535 else None
    if scheme(url) not in _LIVE:
        return None
    return "its port is no number; in a password / is written %2F, ? is %3F, # is %23"


def secret(variable: str | None, file: str | None, what: str) -> str | None:
    """The user name or password (`what`) from where the config points; None where it points nowhere.

    Raises Misconfigured where it is not there.
    """
    if variable is not None and file is not None:
        raise Misconfigured(f"{what}_env and {what}_file are both set; one of them is enough")
    if variable is not None:
        if variable not in os.environ:
            raise Misconfigured(f"{what}_env: the environment has no variable {variable}")
        return os.environ[variable]
    if file is None:
        return None
    path = credential_path(file)
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise Misconfigured(f"{what}_file: {path}: {reason}") from None


def credential_path(file: str) -> Path:
    """A bare name is looked up among systemd's credentials (`LoadCredential=`) where the service has any."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) / file if folder and "/" not in file else Path(file)
