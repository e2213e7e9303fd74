"""Who may reach the sockets, checked before any is bound."""

import contextlib
import ipaddress
import os
import re
from pathlib import Path

import zmq

from tracker.config import Config
from tracker.errors import ConfigError
from tracker.protocol import keys
from tracker.protocol.keys import AllowList, daemon_pair
from tracker.sockets.guard import Guard


def check(config: Config) -> None:
    """Raises ConfigError where an endpoint is malformed, or open to a network without keys."""
    endpoints = {"control.endpoint": config.control.endpoint, "publish.endpoint": config.publish.endpoint}
    guarded = config.keys.dir is not None
    problems = [p for name, endpoint in endpoints.items() if (p := _problem(name, endpoint, guarded))]
    if config.keys.dir is not None:
        problems += keys.problems(Path(config.keys.dir))
    if _is_one_place(config.control.endpoint, config.publish.endpoint):
        problems.append("publish.endpoint: is control.endpoint as well; give each its own")
    if problems:
        raise ConfigError(problems)


def _problem(name: str, endpoint: str, guarded: bool) -> str | None:
    if re.fullmatch(r"ipc:///.+", endpoint):
        problem = _path_problem(_socket_path(endpoint))  # guarded by its mode
        return f"{name}: {endpoint} {problem}" if problem else None
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]]+):(\*|[0-9]{1,5})", endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        return f"{name}: {endpoint!r} is neither tcp://HOST:PORT nor ipc:///absolute/path"
    if not guarded and not _is_loopback(match[1].strip("[]")):
        return (
            f"{name}: {endpoint} can be reached from the network, and no keys guard it (keys.dir); "
            "use tcp://127.0.0.1:PORT or ipc:///absolute/path"
        )
    return None


def _path_problem(path: Path) -> str | None:
    """Why no socket can be bound there. A folder that is missing may be made by systemd at the start."""
    length = len(os.fsencode(path))
    if length > zmq.IPC_PATH_MAX_LEN:
        return f"is a path of {length} bytes; a socket's has {zmq.IPC_PATH_MAX_LEN} at most"
    with contextlib.suppress(PermissionError):  # of a folder that is for the daemon's user alone
        if path.exists() and not path.is_socket():
            return "cannot be bound: a file that is no socket stands there"
        if path.parent.exists() and not path.parent.is_dir():
            return f"cannot be bound: {path.parent} is no folder"
    return None


def _socket_path(endpoint: str) -> Path:
    return Path(endpoint.removeprefix("ipc://"))


def _is_one_place(endpoint: str, other: str) -> bool:
    """Whether both are one socket, however it is spelled; any free port is another one each time."""
    if endpoint.startswith("ipc://") and other.startswith("ipc://"):
        return _socket_path(endpoint).resolve() == _socket_path(other).resolve()
    return endpoint == other and not endpoint.endswith(":*")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def guard_of(config: Config, socket: keys.Socket) -> Guard | None:
    """The guard of a socket; None without keys. Raises ConfigError."""
    if config.keys.dir is None:
        return None
    folder = Path(config.keys.dir)
    return Guard(daemon_pair(folder), AllowList(folder, socket), socket)
