"""Replies that ZeroMQ has not taken yet, because their clients do not read."""

import logging
from collections import deque

import zmq

from tracker.sockets.request import Parts
from tracker.sockets.types import Socket
from tracker.sockets.waiting import MAX_WAITING

log = logging.getLogger(__name__)

MAX_UNREAD = 2 * MAX_WAITING  # replies kept for one client that does not read them; further ones it loses
MAX_UNREAD_BYTES = 16 * 2**20  # likewise


class Unread:
    """Replies by client, in order. Bounded by number and bytes."""

    def __init__(self, max_bytes_in_all: int) -> None:
        self._max_bytes_in_all = max_bytes_in_all
        self._nbytes = 0
        self._by_client: dict[bytes, deque[Parts]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_client)

    def send(self, socket: Socket, address: Parts, payload: bytes) -> None:
        """At once, or when the client has read what came before; not at all where too much waits for it."""
        parts = [*address, payload]
        client = address[0]
        if client not in self._by_client:
            if _sent(socket, parts):
                return
            self._by_client[client] = deque()
        waiting = self._by_client[client]
        if not self._fits(waiting, len(payload)):
            log.warning("a reply of %d bytes is lost: its client does not read", len(payload))
            return
        waiting.append(parts)
        self._nbytes += len(payload)

    def _fits(self, waiting: deque[Parts], nbytes: int) -> bool:
        """Whether one more may wait for a client."""
        kept_bytes = sum(len(parts[-1]) for parts in waiting)
        own_room = MAX_UNREAD_BYTES - kept_bytes
        room_in_all = self._max_bytes_in_all - self._nbytes
        return len(waiting) < MAX_UNREAD and nbytes <= min(own_room, room_in_all)

    def flush(self, socket: Socket) -> None:
        """Send as far as it goes."""
        for client, waiting in list(self._by_client.items()):
            while waiting and _sent(socket, waiting[0]):
                payload = waiting.popleft()[-1]
                self._nbytes -= len(payload)
            if not waiting:
                del self._by_client[client]


def _sent(socket: Socket, parts: Parts) -> bool:
    """False where the client has to read first. What is for a client that is gone counts as sent."""
    try:
        socket.send_multipart(parts, zmq.NOBLOCK)
    except zmq.Again:
        return False
    except zmq.ZMQError as error:
        if error.errno != zmq.EHOSTUNREACH:
            raise
    return True
