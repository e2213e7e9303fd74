"""Requests that are not answered yet, bounded for each connection and in all."""

from collections import defaultdict

from tracker.errors import AtCapacity
from tracker.sockets.request import Request

MAX_WAITING = 256  # requests of one connection that are not answered; further ones are refused
MAX_WAITING_IN_ALL = 1024  # then only who has none waiting is let in
MAX_WAITING_BYTES = 32 * 2**20  # likewise, of all requests that are not answered


class Waiting:
    """By connection. It belongs to the socket's thread."""

    def __init__(self) -> None:
        self._by_connection: dict[int, set[Request]] = defaultdict(set)
        self._count = 0
        self._nbytes = 0

    def all(self) -> list[Request]:
        return [request for requests in self._by_connection.values() for request in requests]

    def add(self, request: Request) -> None:
        self._by_connection[request.fd].add(request)
        self._count += 1
        self._nbytes += request.nbytes

    def take_out(self, request: Request) -> bool:
        """Whether it still waited."""
        requests = self._by_connection.get(request.fd, set())
        if request not in requests:
            return False
        requests.remove(request)
        if not requests:
            del self._by_connection[request.fd]
        self._count -= 1
        self._nbytes -= request.nbytes
        return True

    def forget(self, fd: int) -> None:
        """Nobody waits for the requests of a connection that went."""
        for request in list(self._by_connection.get(fd, ())):
            request.gone = True
            self.take_out(request)

    def no_room(self, fd: int, nbytes: int) -> AtCapacity | None:
        """Why this connection may not have one more request waiting. Who has none waiting always may: connections
        are bounded themselves."""
        own = len(self._by_connection.get(fd, ()))
        if own >= MAX_WAITING:
            return AtCapacity(f"{own} requests of this connection wait for an answer; read some first")
        too_many = self._count >= MAX_WAITING_IN_ALL
        too_large = self._nbytes + nbytes > MAX_WAITING_BYTES
        if own and (too_many or too_large):
            return AtCapacity(f"{self._count} requests wait for an answer, {own} of this connection; try again")
        return None
