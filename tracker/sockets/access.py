"""Who may reach the sockets, checked before any is bound."""

import ipaddress
import re

from tracker.config import Config
from tracker.errors import ConfigError


def check(config: Config) -> None:
    """Raises ConfigError where an endpoint is malformed, or open to a network without keys."""
    endpoints = {"control.endpoint": config.control.endpoint, "publish.endpoint": config.publish.endpoint}
    problems = [problem for name, endpoint in endpoints.items() if (problem := _problem(name, endpoint))]
    if config.control.endpoint == config.publish.endpoint and not config.control.endpoint.endswith(":*"):
        problems.append("publish.endpoint: is control.endpoint as well; give each its own")
    if problems:
        raise ConfigError(problems)


def _problem(name: str, endpoint: str) -> str | None:
    if re.fullmatch(r"ipc:///.+", endpoint):
        return None  # a path, guarded by its mode
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]]+):(\*|[0-9]{1,5})", endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65535):
        return f"{name}: {endpoint!r} is neither tcp://HOST:PORT nor ipc:///absolute/path"
    if not _is_loopback(match[1].strip("[]")):
        return (
            f"{name}: {endpoint} can be reached from the network, and this version has no keys to guard it; "
            "use tcp://127.0.0.1:PORT or ipc:///absolute/path"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
