"""Who may use the page: names it is called by, pages that may call it, tokens, and proxies that are believed.

Beyond this machine a token or a proxy's user is needed. Host is checked against DNS rebinding and Origin against
other sites' scripts, on every request, WebSockets included.
"""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from tracker.config import WebConfig
from tracker.config.wording import why_unreadable
from tracker.errors import ConfigError

MIN_TOKEN = 16
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request says of where it comes from; header names are lower case."""

    peer: str  # address of the connection
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    scheme: str = "http"
    websocket: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Access:
    hosts: frozenset[str]
    cookie: str  # its name: cookies are shared by all ports of a machine, so the port is in it
    token: str | None = None
    user_header: str | None = None
    proxies: tuple[Network, ...] = ()

    @classmethod
    def of(cls, config: WebConfig) -> Self:
        """Raises ConfigError with everything that is wrong."""
        host, port = endpoint_of(config.endpoint or "")
        problems: list[str] = []
        token = _token(config.token_file, problems)
        proxies = _networks(config.trusted_proxies, problems)
        if config.user_header and not config.trusted_proxies:
            problems.append("web.user_header: anybody can send it; name the proxies in web.trusted_proxies")
        if not is_loopback(host) and not token and not config.user_header and not problems:
            problems.append(
                f"web.endpoint: {config.endpoint} can be reached from other machines; set web.token_file, or "
                "web.user_header with web.trusted_proxies, or listen on 127.0.0.1"
            )
        if problems:
            raise ConfigError(problems)
        hosts = {"localhost", "127.0.0.1", "::1", *(name.lower() for name in config.hosts)}
        if not _is_any(host):
            hosts.add(host)
        user_header = config.user_header.lower() if config.user_header else None
        return cls(frozenset(hosts), f"tracker_{port}", token, user_header, proxies)

    def refusal(self, caller: Caller) -> Refusal | None:
        """Why a request is not served; None where it is."""
        host = self.host(caller)
        if hostname(host) not in self.hosts:
            return Refusal(421, f"this page is not called {host!r}; add the name to web.hosts")
        origin = caller.headers.get("origin")
        if (origin is None and caller.websocket) or (origin is not None and _netloc(origin) != host):
            return Refusal(403, f"a page of {origin!r} may not use this one")
        site, mode = (caller.headers.get(f"sec-fetch-{name}") for name in ("site", "mode"))
        if (
            site in ("cross-site", "same-site") and mode != "navigate"
        ):  # an image or the like in another site's page
            return Refusal(403, "another site's page may not use this one")
        if not self.authorised(caller):
            return Refusal(401, "a token is needed")
        return None

    def authorised(self, caller: Caller) -> bool:
        if self.token is None and self.user_header is None:
            return True
        if self.user_header and self._proxied(caller) and caller.headers.get(self.user_header):
            return True
        scheme, _, bearer = caller.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(bearer.strip()):
            return True
        return self.token is not None and _same(caller.cookies.get(self.cookie, ""), self.session())

    def is_token(self, text: str) -> bool:
        return self.token is not None and _same(text, self.token)

    def session(self) -> str:
        """The cookie's value: shows that the token was known, without being it."""
        return hmac.new((self.token or "").encode(), b"tracker page", "sha256").hexdigest()

    def host(self, caller: Caller) -> str:
        """Name and port that the browser used."""
        forwarded = caller.headers.get("x-forwarded-host") if self._proxied(caller) else None
        return (forwarded or caller.headers.get("host", "")).lower()

    def secure(self, caller: Caller) -> bool:
        """Whether the browser speaks TLS, to a proxy or to us."""
        forwarded = caller.headers.get("x-forwarded-proto") if self._proxied(caller) else None
        return (forwarded or caller.scheme) in ("https", "wss")

    def _proxied(self, caller: Caller) -> bool:
        try:
            peer = ipaddress.ip_address(caller.peer)
        except ValueError:
            return False
        return any(peer in network for network in self.proxies)


def endpoint_of(text: str) -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`. Raises ConfigError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 2**16):
        raise ConfigError([f"web.endpoint: {text!r} is not host:port, such as 127.0.0.1:5580 or [::1]:5580"])
    return host.strip("[]").lower(), int(port)


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def hostname(netloc: str) -> str:
    """The name in `name:port`; empty for what is none."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _same(found: str, wanted: str) -> bool:
    return hmac.compare_digest(found.encode(), wanted.encode())


def _token(path: str | None, problems: list[str]) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"web.token_file: {path} cannot be read: {why_unreadable(error)}")
        return None
    if len(token) < MIN_TOKEN:
        problems.append(f"web.token_file: holds {len(token)} characters; a token has at least {MIN_TOKEN}")
    return token


def _networks(texts: list[str], problems: list[str]) -> tuple[Network, ...]:
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError:
            problems.append(f"web.trusted_proxies: {text!r} is no network; give one like 10.0.0.0/8")
    return tuple(networks)
