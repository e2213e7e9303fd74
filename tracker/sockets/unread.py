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
        self._by_client: dict[bytes, _UnreadOfOne] = {}

    def __bool__(self) -> bool:
        return bool(self._by_client)

    def is_full(self, client: bytes) -> bool:
        """Whether a client has lost replies, and has not read those before since."""
        waiting = self._by_client.get(client)
        return waiting is not None and waiting.lost > 0

    def send(self, socket: Socket, address: Parts, payload: bytes) -> None:
        """At once, or when the client has read what came before; not at all where too much waits for it."""
        parts = [*address, payload]
        client = address[0]
        waiting = self._by_client.get(client)
        if waiting is None:
            if _sent(socket, parts):
                return
            waiting = self._by_client[client] = _UnreadOfOne()
        own_room = MAX_UNREAD_BYTES - waiting.nbytes
        room_in_all = self._max_bytes_in_all - self._nbytes
        if len(waiting.replies) >= MAX_UNREAD or len(payload) > min(own_room, room_in_all):
            if not waiting.lost:
                log.warning("a client does not read its replies: it loses those that come now")
            waiting.lost += 1
            return
        waiting.replies.append(parts)
        waiting.nbytes += len(payload)
        self._nbytes += len(payload)

    def flush(self, socket: Socket) -> None:
        """Send as far as it goes."""
        for client, waiting in list(self._by_client.items()):
            while waiting.replies and _sent(socket, waiting.replies[0]):
                payload = waiting.replies.popleft()[-1]
                waiting.nbytes -= len(payload)
                self._nbytes -= len(payload)
            if waiting.replies:
                continue
            del self._by_client[client]
            if waiting.lost:
                log.warning("a client reads its replies again; it lost %d", waiting.lost)


class _UnreadOfOne:
    """What one client has not read."""

    def __init__(self) -> None:
        self.replies: deque[Parts] = deque()
        self.nbytes = 0
        self.lost = 0


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
