"""An HTTP server for who watches a process: figures for Prometheus, and whether it is alive."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tracker.errors import ConfigError
from tracker.threads import NamedThread

REQUEST_S = 2.0  # for a request to come in, and for its answer to be taken: one at a time is answered
MAX_ARRIVING = 128  # requests that are not whole yet
MAX_HEAD_BYTES = 64 * 1024
DEFER_S = 60  # for its first byte, about: until then the system keeps the connection

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
App = Callable[[Environ, StartResponse], Iterable[bytes]]


class Scraped:
    """One thread, however many connect and say nothing: the port may be open to everybody in a cluster."""

    def __init__(self, endpoint: str, app: App) -> None:
        self._endpoint = endpoint
        self._app: Any = app  # typeshed would have what wsgiref itself has
        self._server: WSGIServer | None = None
        self._thread = NamedThread(target=self._run, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.server_port

    def start(self) -> None:
        """Raises ConfigError where the endpoint cannot be had."""
        host, _, port = self._endpoint.rpartition(":")
        try:
            self._server = _Server(host.strip("[]"), int(port), self._app)
        except OverflowError:
            raise self._unbound("there is no such port") from None
        except OSError as error:
            raise self._unbound(str(error.strerror)) from None
        self._thread.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _run(self) -> None:
        assert self._server is not None
        self._server.serve_forever(poll_interval=0.1)

    def _unbound(self, why: str) -> ConfigError:
        return ConfigError([f"metrics.endpoint: {self._endpoint} cannot be bound: {why}"])


class _Server(WSGIServer):
    """At an address of either family. Connections that say nothing stay with the system, and those whose requests
    are not whole yet are set aside: neither hold up anybody."""

    request_queue_size = 128  # connections that wait for their turn

    def __init__(self, host: str, port: int, app: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._arriving: dict[socket.socket, tuple[Any, float]] = {}  # whose, and until when; the oldest first
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Without `HTTPServer`'s question for its own name: where no DNS answers, that takes half a minute."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def server_close(self) -> None:
        super().server_close()
        for connection in self._arriving:
            connection.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """See `service_actions`, which socketserver calls next, and ten times a second."""
        self._arriving[request] = client_address, time.monotonic() + _Handler.timeout
        if len(self._arriving) > MAX_ARRIVING:
            self._hang_up(next(iter(self._arriving)))

    def service_actions(self) -> None:
        """Answer requests that are whole; hang up on who does not come to an end in time."""
        for connection, (address, until_s) in list(self._arriving.items()):
            head = _arrived(connection)
            if head is not None and (b"\n\r\n" in head or b"\n\n" in head):
                self._answer(connection, address)
            elif time.monotonic() > until_s or (head is not None and len(head) in (0, MAX_HEAD_BYTES)):
                self._hang_up(connection)

    def _answer(self, connection: socket.socket, address: Any) -> None:
        """As socketserver does it: no request ends the thread."""
        del self._arriving[connection]
        try:
            super().process_request(connection, address)
        except Exception:  # noqa: BLE001 - it is told
            self.handle_error(connection, address)
            self.shutdown_request(connection)

    def _hang_up(self, connection: socket.socket) -> None:
        del self._arriving[connection]
        self.shutdown_request(connection)


def _arrived(connection: socket.socket) -> bytes | None:
    """What was sent, and stays to be read; None: nothing more yet, b"": nothing will come."""
    try:
        return connection.recv(MAX_HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def handle(self) -> None:
        """Who says nothing, or goes meanwhile, is hung up on, without a word in the log for each."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for each."""
