"""One request as a handler gets it, and errors as they are replied."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tracker.errors import TrackerError
from tracker.protocol import codec
from tracker.protocol.replies import ErrorBody
from tracker.sockets.connections import NOBODY

MAX_MESSAGE_CHARS = 1000

Parts = list[bytes]


class Request:
    """One request, right in itself. Answer it from any thread; only the first answer is sent.

    `owner` is whose it is: a key's user, else a client's token, else the connection. `gone`: nobody waits for it.
    """

    def __init__(
        self,
        call: codec.ParsedRequest,
        address: Parts,
        answer: Callable[["Request", Struct], None],
        owner: bytes = b"",
        fd: int = NOBODY,
        nbytes: int = 0,
    ) -> None:
        self.id: Any = call.id
        self.op = call.op
        self.args: Any = call.args
        self.address = address
        self.owner = owner
        self.fd = fd
        self.nbytes = nbytes
        self.gone = False
        self._answer = answer

    def reply(self, result: Struct) -> None:
        self._answer(self, result)

    def fail(self, error: TrackerError) -> None:
        self._answer(self, error_body(error))


def error_body(error: TrackerError) -> ErrorBody:
    return ErrorBody(code=error.code, message=error.message[:MAX_MESSAGE_CHARS])
