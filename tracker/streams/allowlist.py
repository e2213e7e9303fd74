"""What a client may ask the daemon to open (`streams.add`): what a pattern of `control.allow_sources` matches."""

import os
import re
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from tracker.config import ControlConfig, StreamConfig
from tracker.streams.urls import CREDENTIAL_FIELDS, local_path, scheme

# A pattern without a port means this one; other schemes have none to fall back on.
_PORTS = {"rtsp": 554, "rtsps": 322, "rtmp": 1935, "rtmps": 443, "http": 80, "https": 443}
# FFmpeg options that change what a picture looks like or how patiently it is waited for. All others could lead the
# daemon to other hosts (http_proxy), make it listen, or open other files (protocol_whitelist), and stay the
# config's own.
SAFE_OPTIONS = {
    "analyzeduration",
    "buffer_size",
    "fflags",
    "flags",
    "fpsprobesize",
    "framerate",
    "input_format",
    "max_delay",
    "pixel_format",
    "probesize",
    "reorder_queue_size",
    "rtbufsize",
    "skip_frame",
    "threads",
    "timeout",
    "video_size",
}
# FFmpeg reads the query of these URLs as options: `tcp://…?listen=1` makes it a server.
_OPTIONS_IN_URL = {"tcp", "tls", "udp", "udplite", "rtp", "srtp", "srt", "rist", "sctp", "dtls", "unix", "zmq"}
_SAFE_URL_OPTIONS = {"latency", "passphrase", "pbkeylen", "streamid"}  # of srt
_SAFE_FORMATS = {"rtsp", "flv", "live_flv", "mpegts", "mjpeg", "mpjpeg", "h264", "hevc", "mp4", "matroska", "v4l2"}


def refusal(config: StreamConfig, control: ControlConfig) -> str | None:
    """Why a client may not add this source, None if it may. What reads the daemon's own files or environment, or
    makes FFmpeg open more than the URL, is left to the configuration file; credentials may be named where
    `control.allow_credentials` says so, files among them only as systemd hands them over."""
    if not allowed(config.url, control.allow_sources):
        return "url: no pattern of control.allow_sources matches it; ask the operator to add one"
    if config.format is not None and config.format not in _SAFE_FORMATS:
        return f"format: {config.format!r} is for the configuration file; here: {', '.join(sorted(_SAFE_FORMATS))}"
    for name in config.options:
        if name not in SAFE_OPTIONS:
            return f"options: {name!r} is for the configuration file; here: {', '.join(sorted(SAFE_OPTIONS))}"
    for name in _url_options(config.url):
        if name not in SAFE_OPTIONS | _SAFE_URL_OPTIONS:
            return f"url: the option {name!r} is for the configuration file"
    for field in CREDENTIAL_FIELDS:
        name = getattr(config, field)
        if name is not None and not control.allow_credentials:
            return (
                f"{field}: is for the configuration file unless control.allow_credentials is true; "
                "here the URL itself may carry credentials"
            )
        if name is not None and field.endswith("_file") and "/" in name:
            return f"{field}: must be the name of a systemd credential, without a folder"
    return None


def allowed(url: str, patterns: list[str]) -> bool:
    """Whether a pattern matches the URL.

    A pattern is a URL or an absolute path. The scheme must be equal; in a host `*` stands for any characters; no
    port means the scheme's own, `:*` any; in a path `*` stands for any characters but `/`, and a `**` at the end
    for everything below; without a path only the root is meant. User, password and query do not count.
    Links and `..` in local paths are followed before they are compared.
    """
    if not url.isprintable() or " " in url or "\\" in url:
        return False
    path = local_path(url)
    if path is not None:
        return path.is_absolute() and any(_path_matches(os.path.realpath(path), p) for p in patterns)
    return any(_url_matches(url, pattern) for pattern in patterns)


def _url_options(url: str) -> list[str]:
    """The names of the options that FFmpeg finds in a URL."""
    if scheme(url) not in _OPTIONS_IN_URL:
        return []
    query = url.partition("?")[2]
    return [pair.partition("=")[0] for pair in query.split("&") if pair]


def pattern_problem(pattern: str) -> str | None:
    """What is wrong with a pattern of `control.allow_sources`: one that could never match anything."""
    path = local_path(pattern)
    if path is not None:
        return (
            None
            if path.is_absolute()
            else "must be an absolute path, or a URL with its scheme, like rtsp://host/**"
        )
    if "://" not in pattern:
        return "must be a URL with ://, or an absolute path"
    if "**" in pattern.removesuffix("**"):
        return "** may only stand at the end"
    return None


def _path_matches(path: str, pattern: str) -> bool:
    wanted = local_path(pattern)
    return wanted is not None and wanted.is_absolute() and _matches(path, str(wanted), r"[^/]*")


def _url_matches(url: str, pattern: str) -> bool:
    if scheme(pattern) is None or scheme(pattern) != scheme(url) or "://" not in pattern or "://" not in url:
        return False
    try:
        wanted, parts = urlsplit(pattern.replace(":*", ":0", 1) if _any_port(pattern) else pattern), urlsplit(url)
        ports_match = _any_port(pattern) or _port(parts) == _port(wanted)
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    path = unquote(parts.path)
    if not parts.hostname or not ports_match or ".." in PurePosixPath(path).parts or not path.isprintable():
        return False
    host_matches = _matches(parts.hostname.rstrip("."), (wanted.hostname or "").rstrip("."), r".*")
    return host_matches and _matches(path or "/", wanted.path or "/", r"[^/]*")


def _any_port(pattern: str) -> bool:
    return bool(re.match(r"^[a-z0-9+.-]+://[^/]*:\*(/|$)", pattern, re.IGNORECASE))


def _port(parts: SplitResult) -> int | None:
    return parts.port or _PORTS.get(parts.scheme)


def _matches(text: str, pattern: str, star: str) -> bool:
    """`*` is `star`; `**`, only at the end, is anything that does not climb out."""
    deep = pattern.endswith("**")
    body = star.join(re.escape(part) for part in pattern.removesuffix("**").split("*"))
    return re.fullmatch(body + (".*" if deep else ""), text, re.DOTALL) is not None
