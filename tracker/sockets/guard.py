"""CURVE on a bound socket: encrypted, and only for keys that are on its list."""

import contextlib
import logging
from collections.abc import Iterator

import zmq
from zmq.auth.thread import ThreadAuthenticator

from tracker.protocol.keys import AllowList, KeyPair
from tracker.sockets.types import Socket

log = logging.getLogger(__name__)

ZAP_ENFORCE_DOMAIN = 93  # of zmq.h; without it, a socket with a domain and no handler would let any key in
MAX_REMEMBERED = 256  # refused keys, each logged once


class Guard:
    """Who may use one socket. `domain` is the socket's name."""

    def __init__(self, pair: KeyPair, allowed: AllowList, domain: str) -> None:
        self._pair = pair
        self._allowed = allowed
        self._domain = domain
        self._refused: set[str] = set()
        self._handler: ThreadAuthenticator | None = None  # while the socket is there

    def is_alive(self) -> bool:
        """Whether connections are judged; without a handler, all that are new wait for ever."""
        return self._handler is None or self._handler.is_alive()

    @contextlib.contextmanager
    def on(self, context: "zmq.Context[Socket]", socket: Socket) -> Iterator[None]:
        """Guard a socket that is not bound yet; the handler runs until the block ends."""
        authenticator = ThreadAuthenticator(context)
        authenticator.start()
        self._handler = authenticator
        try:
            authenticator.configure_curve_callback(self._domain, self)
            socket.setsockopt_string(zmq.ZAP_DOMAIN, self._domain)
            socket.setsockopt(ZAP_ENFORCE_DOMAIN, 1)
            socket.curve_server = 1
            socket.curve_publickey = self._pair.public.encode()
            socket.curve_secretkey = self._pair.secret.encode()
            yield
        finally:
            self._handler = None
            _stop(authenticator)

    def callback(self, _: str, key: bytes) -> bool:
        """Called by pyzmq's handler for each connection."""
        public = key.decode("ascii", "replace")
        if self._allowed.name_of(public) is not None:
            return True
        if public not in self._refused and len(self._refused) < MAX_REMEMBERED:
            self._refused.add(public)
            log.warning("%s: the key %s is not allowed", self._domain, public)
        return False

    def allows(self, user: str) -> bool:
        """Whether a key that was let in is allowed still."""
        return self._allowed.name_of(user) is not None


def _stop(authenticator: ThreadAuthenticator) -> None:
    """Also one whose thread has died, which would never hear of it."""
    if not authenticator.is_alive():
        authenticator.pipe.close()
        authenticator.pipe = None  # type: ignore[assignment]
    authenticator.stop()
