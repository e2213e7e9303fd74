"""An HTTP server for who watches a process: figures for Prometheus, and whether it is alive."""

import contextlib
import io
import socket
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from tracker.errors import ConfigError
from tracker.threads import NamedThread

REQUEST_S = 2.0  # for a request to come in: one at a time is served, and none holds up the next for longer
DEFER_S = 60  # for its first byte, about: until then the system keeps the connection
MIN_S = 0.001  # 0 would not wait, nor say that it is too late

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
    """At an address of either family. Connections that say nothing stay with the system: they hold up nobody."""

    request_queue_size = 128  # connections that wait for their turn

    def __init__(self, host: str, port: int, app: Any) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler)
        self.set_app(app)

    def server_bind(self) -> None:
        """Without `HTTPServer`'s question for its own name: where no DNS answers, that takes half a minute."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_S)
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()


class _Arriving(io.RawIOBase):
    """A request, which is to be there whole in time: who sends it byte by byte is hung up on as well."""

    def __init__(self, connection: socket.socket, within_s: float) -> None:
        self._connection = connection
        self._within_s = within_s
        self._deadline_s = time.monotonic() + within_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises TimeoutError."""
        self._connection.settimeout(max(MIN_S, self._deadline_s - time.monotonic()))
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._within_s)  # for the answer


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Arriving(self.connection, self.timeout))

    def handle(self) -> None:
        """Who says nothing, or goes meanwhile, is hung up on, without a word in the log for each."""
        with contextlib.suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for each."""
