"""Who may reach the sockets, checked before any is bound."""

import ipaddress
import re
from pathlib import Path

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
    if config.control.endpoint == config.publish.endpoint and not config.control.endpoint.endswith(":*"):
        problems.append("publish.endpoint: is control.endpoint as well; give each its own")
    if problems:
        raise ConfigError(problems)


def _problem(name: str, endpoint: str, guarded: bool) -> str | None:
    if re.fullmatch(r"ipc:///.+", endpoint):
        return None  # a path, guarded by its mode
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]]+):(\*|[0-9]{1,5})", endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        return f"{name}: {endpoint!r} is neither tcp://HOST:PORT nor ipc:///absolute/path"
    if not guarded and not _is_loopback(match[1].strip("[]")):
        return (
            f"{name}: {endpoint} can be reached from the network, and no keys guard it (keys.dir); "
            "use tcp://127.0.0.1:PORT or ipc:///absolute/path"
        )
    return None


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
