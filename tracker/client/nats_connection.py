"""A connection to NATS that is kept for ever. nats-py is loaded when it is made: it is the extra `fleet`."""

import asyncio
import logging
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.errors import ConfigError

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats

log = logging.getLogger(__name__)

RECONNECT_S = 0.25
PING_S = 1  # with LOST_PINGS unanswered the connection counts as lost
LOST_PINGS = 3
CONNECT_S = 2
PATIENCE_S = 10  # of somebody who does not wait for a server

SEED = re.compile(r"BEGIN NATS USER JWT-+\s+\S+\s.*BEGIN USER NKEY SEED-+\s+(\S+)\s", re.DOTALL)

Callback = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Where NATS is, and who we are to it."""

    servers: Sequence[str] = ("nats://127.0.0.1:4222",)
    credentials: str | None = None  # a .creds file, as `nsc` makes it
    ca: str | None = None  # certificates that the servers are checked by, instead of the system's
    certificate: str | None = None  # our own certificate, and its key
    certificate_key: str | None = None

    @classmethod
    def of(cls, servers: str, **files: str | None) -> "NatsOptions":
        """Of servers as a person writes them, one or several with commas between."""
        return cls([server.strip() for server in servers.split(",")], **files)


def need_nats() -> None:
    """Raises ConfigError where nats-py is not installed."""
    if find_spec("nats") is None:
        problem = "a fleet needs nats-py: tools/install brings it along; elsewhere pip install it"
        raise ConfigError([problem])


async def connect_nats(
    options: NatsOptions,
    name: str,
    *,
    on_lost: Callback | None = None,
    on_back: Callback | None = None,
    wait: bool = False,
) -> "Nats":
    """Connect. With `wait`, until a server is there; else raises ConfigError where there is none now. A connection
    that is lost comes back by itself."""
    need_nats()
    import nats

    credentials = _credentials(options)
    refused: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
    refusals = 0

    async def hear(error: Exception) -> None:
        """Servers of which none wants us will not want us later; what else fails is tried again."""
        nonlocal refusals
        log.debug("NATS: %s", error)
        refusals += _is_refusal(error)
        if refusals >= len(options.servers) and not refused.done():
            refused.set_result(error)
            if wait:
                log.warning("NATS refuses the connection: %s", error)

    connecting = asyncio.ensure_future(
        nats.connect(
            servers=list(options.servers),
            name=name,
            error_cb=hear,
            disconnected_cb=on_lost,
            reconnected_cb=on_back,
            connect_timeout=CONNECT_S,
            reconnect_time_wait=RECONNECT_S,
            max_reconnect_attempts=-1,
            ping_interval=PING_S,
            max_outstanding_pings=LOST_PINGS,
            user_credentials=credentials,
            tls=_tls(options),
        )
    )
    ends: list[asyncio.Future[Any]] = [connecting] if wait else [connecting, refused]
    await asyncio.wait(ends, timeout=None if wait else PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
    return await _connected(connecting, refused, options)


async def close_nats(connection: "Nats") -> None:
    """Also one that is lost just now, or whose network is cut: that would never take the last bytes."""
    import nats

    try:
        await asyncio.wait_for(connection.close(), CONNECT_S)
    except (nats.errors.Error, TimeoutError, OSError):  # nats-py has not closed its socket then, and never does
        if connection._transport is not None:
            connection._transport.close()  # type: ignore[no-untyped-call]


async def _connected(
    connecting: "asyncio.Future[Nats]", refused: "asyncio.Future[Exception]", options: NatsOptions
) -> "Nats":
    """Raises ConfigError where it is not."""
    import nats

    why = str(refused.result()) if refused.done() else "no answer"
    try:
        if connecting.done():
            return connecting.result()
        connecting.cancel()
        await asyncio.wait([connecting], timeout=CONNECT_S)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        why = str(error) or why
    raise ConfigError([f"{', '.join(options.servers)}: NATS is not to be had there: {why.removeprefix('nats: ')}"])


def _is_refusal(error: Exception) -> bool:
    """The server's own words for credentials that it does not take have `Authorization` or `Authentication`."""
    return isinstance(error, ssl.SSLError) or "auth" in str(error).lower()


def _credentials(options: NatsOptions) -> str | None:
    """The file, looked at before a server is: nats-py would call a file that is not there a server that is not."""
    path = options.credentials
    if path is None:
        return None
    try:
        import nkeys
    except ImportError:
        raise ConfigError(["nats: credentials need nkeys: pip install 'nats-py[nkeys]'"]) from None
    try:
        text = Path(path).read_text(encoding="ascii")
        (seed,) = SEED.findall(text)
        nkeys.from_seed(seed.encode())
    except OSError as error:
        raise ConfigError([f"nats: {path} cannot be read: {error.strerror}"]) from None
    except (ValueError, nkeys.NkeysError):
        raise ConfigError([f"nats: {path} is no credentials file as nsc makes it"]) from None
    return path


def _tls(options: NatsOptions) -> ssl.SSLContext | None:
    """None: as the servers' URLs say (tls:// checks by the system's certificates)."""
    if options.ca is None and options.certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.certificate_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError([f"nats: its certificates cannot be read: {error}"]) from None
    return context
