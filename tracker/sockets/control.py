"""The control socket: bytes in, typed requests out to a handler, and exactly one reply to each of them."""

import logging
from collections.abc import Callable, Collection
from typing import Any

import zmq
from msgspec import Struct

from tracker.errors import TrackerError, Unavailable
from tracker.protocol import codec
from tracker.protocol.fields import MAX_BYTES, MAX_PARTS
from tracker.protocol.replies import ErrorBody, ErrorReply, Reply
from tracker.sockets.socket_thread import Mailbox, Socket, SocketThread

log = logging.getLogger(__name__)

MAX_WAITING = 256  # requests handed over and not answered; further ones stay in ZeroMQ's queues
MAX_UNREAD = 2 * MAX_WAITING  # replies kept for one client that does not read them; further ones it loses
MAX_PART_BYTES = 2 * MAX_BYTES  # up to here a request that is too large is told so; beyond, it is cut off
MAX_MESSAGE_CHARS = 1000

Parts = list[bytes]


class Request:
    """One request, right in itself. Answer it from any thread; only the first answer is sent."""

    def __init__(
        self, call: codec.ParsedRequest, address: Parts, answer: Callable[["Request", Struct], None]
    ) -> None:
        self.id: Any = call.id
        self.op = call.op
        self.args: Any = call.args
        self.address = address
        self._answer = answer

    def reply(self, result: Struct) -> None:
        self._answer(self, result)

    def fail(self, error: TrackerError) -> None:
        self._answer(self, _body(error))


class ControlServer:
    """Serves the operations in `served` by calling `handle` from the socket's thread.

    `handle` must not block: it either answers at once or keeps the request for another thread. A TrackerError that
    it raises becomes the reply.
    """

    def __init__(
        self, endpoint: str, handle: Callable[[Request], None], served: Collection[str], instance: str
    ) -> None:
        self._handle = handle
        self._served = served
        self._instance = instance
        self._waiting: set[Request] = set()
        self._answers: Mailbox[tuple[Request, bytes] | None] = Mailbox()
        options = {
            zmq.SNDHWM: MAX_UNREAD,
            zmq.RCVHWM: MAX_WAITING,
            zmq.MAXMSGSIZE: MAX_PART_BYTES,
        }
        self._thread = SocketThread("control", zmq.ROUTER, endpoint, options, self._serve)

    @property
    def endpoint(self) -> str:
        """As bound, once started: port `*` is a number then."""
        return self._thread.endpoint

    def start(self) -> None:
        """Bind and serve. Raises ConfigError where the endpoint cannot be had."""
        self._thread.start()

    def stop(self) -> None:
        """Answer whatever is open with `unavailable`, close, and join."""
        self._answers.put(None)
        self._thread.join()
        self._answers.close()

    # ------------------------------------------------------------------------------------ the socket's thread

    def _serve(self, socket: Socket) -> None:
        poller = zmq.Poller()
        poller.register(self._answers.fileno(), zmq.POLLIN)
        while True:
            poller.modify(socket, zmq.POLLIN if len(self._waiting) < MAX_WAITING else 0)
            ready = dict(poller.poll())
            if not self._send_answers(socket):
                return
            if socket in ready:
                self._receive(socket)

    def _send_answers(self, socket: Socket) -> bool:
        """False when it is time to stop."""
        for answer in self._answers.take():
            if answer is None:
                self._refuse_waiting(socket)
                return False
            request, payload = answer
            if request in self._waiting:
                self._waiting.remove(request)
                _send(socket, request.address, payload)
        return True

    def _refuse_waiting(self, socket: Socket) -> None:
        refusal = Unavailable("the daemon is stopping")
        for request in self._waiting:
            _send(socket, request.address, self._encoded(request.id, _body(refusal)))
        for _ in range(MAX_WAITING):  # and no more: who sends without end must not hold up the stop
            if not socket.poll(0):
                return
            address, body = _split(_receive_parts(socket))
            outcome = codec.parse_request(body, self._served)
            _send(socket, address, self._encoded(outcome.id, _body(refusal)))

    def _receive(self, socket: Socket) -> None:
        address, body = _split(_receive_parts(socket))
        outcome = codec.parse_request(body, self._served)
        if isinstance(outcome, codec.Refusal):
            _send(socket, address, self._encoded(outcome.id, _body(outcome.error)))
            return
        request = Request(outcome, address, self._answer)
        self._waiting.add(request)
        try:
            self._handle(request)
        except TrackerError as error:
            request.fail(error)
        except Exception:
            log.exception("%s failed", request.op)
            request.fail(_INTERNAL)

    # --------------------------------------------------------------------------------------------- any thread

    def _answer(self, request: Request, result: Struct) -> None:
        try:
            payload = self._encoded(request.id, result)
        except TypeError:
            log.exception("the result of %s cannot be sent", request.op)
            payload = self._encoded(request.id, _body(_INTERNAL))
        self._answers.put((request, payload))

    def _encoded(self, request_id: Any, result: Struct) -> bytes:
        if isinstance(result, ErrorBody):
            return codec.encode(ErrorReply(id=request_id, error=result, instance=self._instance))
        return codec.encode(Reply(id=request_id, result=result, instance=self._instance))


_INTERNAL = TrackerError("an error of the daemon's own; its log says more")


def _body(error: TrackerError) -> ErrorBody:
    return ErrorBody(code=error.code, message=error.message[:MAX_MESSAGE_CHARS])


def _receive_parts(socket: Socket) -> Parts:
    """One message. Parts beyond what is ever read are thrown away as they come, one more is kept to show for it."""
    parts = [socket.recv()]
    while socket.rcvmore:
        part = socket.recv()
        if len(parts) <= MAX_PARTS + 2:
            parts.append(part)
    return parts


def _split(parts: Parts) -> tuple[Parts, Parts]:
    """Address (with REQ's empty delimiter, where there is one) and body."""
    end = 2 if parts[1:2] == [b""] else 1
    return parts[:end], parts[end:]


def _send(socket: Socket, address: Parts, payload: bytes) -> None:
    # A ROUTER drops what is for a client that is gone or does not read; it never blocks.
    socket.send_multipart([*address, payload], zmq.NOBLOCK)
