"""A connection to NATS that is kept for ever. nats-py is loaded when it is made: it is the extra `fleet`."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from tracker.client.nats_options import NatsOptions
from tracker.client.tasks import ended
from tracker.errors import ConfigError

if TYPE_CHECKING:
    from nats.aio.client import Client as Nats

log = logging.getLogger(__name__)

RECONNECT_S = 0.25
PING_S = 1  # with LOST_PINGS unanswered the connection counts as lost
LOST_PINGS = 3
CONNECT_S = 2
PATIENCE_S = 10  # of somebody who does not wait for a server

NO_JETSTREAM = "JetStream does not answer; is it on (nats-server -js)?"
NO_TLS = "the server does not speak TLS, which tls://, ca or a certificate asks for"

Callback = Callable[[], Awaitable[None]]


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
    options.check()
    nats = _client(wants_tls=options.wants_tls)
    failures = Failures(options, wait)
    connecting = asyncio.ensure_future(
        nats.connect(
            servers=list(options.servers),
            name=name,
            error_cb=failures.hear,
            disconnected_cb=on_lost,
            reconnected_cb=on_back,
            connect_timeout=CONNECT_S,
            reconnect_time_wait=RECONNECT_S,  # type: ignore[arg-type]  # it goes to asyncio.sleep
            max_reconnect_attempts=-1,
            ping_interval=PING_S,
            max_outstanding_pings=LOST_PINGS,
            user_credentials=options.credentials,
            tls=options.tls(),
        )
    )
    ends: list[asyncio.Future[Any]] = [connecting] if wait else [connecting, failures.refused]
    try:
        await asyncio.wait(ends, timeout=None if wait else PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        _finish(connecting, failures, options)
    except BaseException:  # or nobody waits for it any more: it would go on trying for ever
        await ended([connecting])
        await close_nats(nats)
        raise
    return nats


async def close_nats(connection: "Nats") -> None:
    """Also one that is lost just now, or whose network is cut: that would never take the last bytes."""
    import nats

    try:
        await asyncio.wait_for(connection.close(), CONNECT_S)
    except (nats.errors.Error, TimeoutError, OSError):  # nats-py has not closed its socket then, and never does
        if connection._transport is not None:
            connection._transport.close()  # type: ignore[no-untyped-call]


def not_answered(options: NatsOptions, error: Exception) -> ConfigError:
    """What a connected NATS raised, in words: its JetStream does not answer, or it is away again."""
    import nats
    from nats.js.errors import ServiceUnavailableError

    if isinstance(error, (TimeoutError, nats.errors.NoRespondersError, ServiceUnavailableError)):
        return ConfigError([f"{options.shown}: {NO_JETSTREAM}"])
    return ConfigError([f"{options.shown}: NATS: {_words(error)}"])


class Failures:
    """What goes wrong while a connection is tried. `refused`: by as many servers as there are."""

    def __init__(self, options: NatsOptions, wait: bool) -> None:
        self.refused: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._options = options
        self._wait = wait
        self._count = 0
        self._refusals = 0

    async def hear(self, error: Exception) -> None:
        """A server that does not want us will not want us later; what else fails is tried again."""
        log.debug("NATS: %s", error)
        words = _words(error)
        self._count += 1
        self._refusals += isinstance(error, ssl.SSLError) or "auth" in words.lower()
        if self._wait and self._count == len(self._options.servers):
            log.warning("%s: NATS is not to be had there yet: %s", self._options.shown, words)
        if self._refusals >= len(self._options.servers) and not self.refused.done():
            self.refused.set_result(words)


def _finish(connecting: "asyncio.Future[None]", failures: Failures, options: NatsOptions) -> None:
    """Raises ConfigError where it is not connected."""
    import nats

    why = failures.refused.result() if failures.refused.done() else "no answer"
    try:
        if connecting.done():
            connecting.result()
            return
    except (nats.errors.Error, OSError, TimeoutError) as error:
        why = _words(error) or why
    raise ConfigError([f"{options.shown}: NATS is not to be had there: {why}"])


def _words(error: Exception) -> str:
    """Without numbers of the operating system."""
    text = error.strerror if isinstance(error, OSError) else None
    return (text or str(error)).removeprefix("nats: ")


def _client(*, wants_tls: bool) -> "Nats":
    from nats.aio.client import Client as Nats
    from nats.errors import Error as NatsError
    from nats.protocol.parser import PERMISSIONS_ERR

    class KeptNats(Nats):
        """nats-py closes a connection for ever where the server says that it ends it: credentials that expired, or
        were taken away, are renewed one day."""

        async def _process_err(self, err_msg: str) -> None:
            if PERMISSIONS_ERR in err_msg:  # of one subject; the connection stays
                await super()._process_err(err_msg)
                return
            log.warning("NATS ends the connection: %s", err_msg.strip("'"))
            await self._process_op_err(NatsError(f"nats: {err_msg}"))

        async def _select_next_server(self) -> None:
            """It leaves a connection that was refused to Python's garbage."""
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]
            await super()._select_next_server()

        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            """nats-py speaks TLS only where the server's first line asks for it, and that line comes in plain."""
            assert self._current_server is not None
            is_plain = self._current_server.uri.scheme != "wss" and not info.get("tls_required")
            if wants_tls and initial_connection and is_plain:
                raise ssl.SSLError(ssl.SSL_ERROR_SSL, NO_TLS)
            await super()._process_info(info, initial_connection)

    return KeptNats()
