"""Connections of the page's server: how many there may be, how long one may keep it waiting, and how much may wait.

uvicorn waits for ever for a request's head or body, and takes every connection there is a descriptor for; anybody
who reaches the port could hold them all without a token. What a WebSocket pings, it answers, read or not.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

MAX_CONNECTIONS = 512  # MAX_VIEWERS browsers with a WebSocket and the usual six connections each
REQUEST_S = 10.0  # for a request to arrive whole
MAX_UNREAD_BYTES = 16 * 2**20  # of a WebSocket; far more than a message has


class PatientProtocol(H11Protocol):
    """One connection. What sends no whole request in time is closed; so is one too many, at once."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._at_last_look: Any = None  # the request that was worked on then
        self._look: asyncio.TimerHandle | None = None
        if len(self.connections) > MAX_CONNECTIONS:
            transport.abort()
        else:
            self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._look_no_more()

    def handle_websocket_upgrade(self, event: Any) -> None:
        super().handle_websocket_upgrade(event)
        self._look_no_more()

    def _look_later(self) -> None:
        self._look = self.loop.call_later(REQUEST_S, self._look_at_it)

    def _look_no_more(self) -> None:
        if self._look is not None:
            self._look.cancel()

    def _look_at_it(self) -> None:
        """Close it where it waited for the same request's bytes all the time since the last look."""
        cycle = self.cycle
        waits = cycle is None or cycle.response_complete or cycle.more_body
        if waits and cycle is self._at_last_look:
            self.transport.close()
            return
        self._at_last_look = cycle
        self._look_later()


class PatientWebSocket(WebSocketsSansIOProtocol):
    """One WebSocket. Messages wait until it reads, answers to pings do not: who pings unread is cut off."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.transport.abort()
