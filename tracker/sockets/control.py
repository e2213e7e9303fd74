"""The control socket: bytes in, typed requests out to a handler, and exactly one reply to each of them."""

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

import zmq
from msgspec import Struct

from tracker.config import LimitsConfig
from tracker.errors import Forbidden, TrackerError, Unavailable
from tracker.protocol import codec
from tracker.protocol.fields import MAX_BYTES, MAX_PARTS
from tracker.protocol.replies import ErrorBody, ErrorReply, Reply
from tracker.sockets.connections import Connections, descriptor_of, user_of
from tracker.sockets.guard import Guard
from tracker.sockets.request import Parts, Request, error_body
from tracker.sockets.socket_server import DEFAULT_LIMITS, POLL_MS, SocketServer
from tracker.sockets.types import Socket, has_message
from tracker.sockets.unread import Unread
from tracker.sockets.waiting import MAX_WAITING, Waiting

log = logging.getLogger(__name__)

REPLIES_IN_SOCKET = 4  # handed to ZeroMQ for one client, which counts messages and not bytes
RETRY_MS = 10  # until a client that did not read is tried again
RECEIVED_AT_ONCE = 64  # requests, between two rounds of replies
# While more comes than one round takes, this thread rests longer than it reads: each message that it looks at is
# taken from the time of the model, which needs the interpreter as well.
ROUND_S, REST_S = 0.003, 0.009
MAX_PART_BYTES = 2 * MAX_BYTES  # up to here a request that is too large is told so; beyond, it is cut off
LAST_REPLIES_S = 0.2
# A routing id of this length is an owner's token and a connection's own part: a client that opens a connection per
# call owns what it asked for on all of them.
ROUTING_ID_BYTES, OWNER_BYTES = 24, 16
INTERNAL = TrackerError("an error of the daemon's own; its log says more")


class ControlServer(SocketServer[tuple[Request, bytes]]):
    """Serves the operations in `served` by calling `handle` from the socket's thread.

    `handle` must not block: it either answers at once or keeps the request for another thread. A TrackerError that
    it raises becomes the reply. What is open when it stops is answered with `unavailable`.
    """

    def __init__(
        self,
        endpoint: str,
        handle: Callable[[Request], None],
        served: Collection[str],
        instance: str,
        limits: LimitsConfig = DEFAULT_LIMITS,
        guard: Guard | None = None,
    ) -> None:
        self._handle = handle
        self._served = served
        self._instance = instance
        self._waiting = Waiting()
        self._answered: Counter[str] = Counter()  # by code; "ok" for what was not refused
        self._counting = threading.Lock()
        self._unread = Unread(round(limits.replies_mib * 2**20))
        options = {
            zmq.SNDHWM: REPLIES_IN_SOCKET,
            zmq.MAXMSGSIZE: MAX_PART_BYTES,
            zmq.ROUTER_MANDATORY: 1,
        }
        super().__init__("control", zmq.ROUTER, endpoint, options, limits, guard)

    # ------------------------------------------------------------------------------------ the socket's thread

    def _serve(self, socket: Socket, connections: Connections) -> None:
        resting, reading = zmq.Poller(), zmq.Poller()
        for readable in (self._outbox.fileno(), connections.monitor):
            resting.register(readable, zmq.POLLIN)
            reading.register(readable, zmq.POLLIN)
        reading.register(socket, zmq.POLLIN)
        rest_until_s = 0.0
        while True:
            rest_s = rest_until_s - time.monotonic()
            if rest_s > 0:
                resting.poll(math.ceil(rest_s * 1000))
            else:
                reading.poll(RETRY_MS if self._unread else POLL_MS)
            with self._round(socket, connections):
                self._unread.flush(socket)
                if not self._send_answers(socket):
                    return
                rested = time.monotonic() >= rest_until_s
                if rested and self._received_more_than_a_round(socket, connections):
                    rest_until_s = time.monotonic() + REST_S
                self._forget(connections.update())
                self._forget(connections.turn_away())

    def _send_answers(self, socket: Socket) -> bool:
        """False when it is time to stop."""
        for answer in self._outbox.take():
            if answer is None:
                self._refuse_waiting(socket)
                return False
            request, payload = answer
            if self._waiting.take_out(request):
                self._unread.send(socket, request.address, payload)
        return True

    def _forget(self, gone: list[int]) -> None:
        for fd in gone:
            self._waiting.forget(fd)

    def _refuse_waiting(self, socket: Socket) -> None:
        """Tell all who wait that the daemon stops, and give their replies a moment to leave."""
        for request in self._waiting.all():
            self._refuse_stopping(socket, request.address, request.id)
        for _ in range(MAX_WAITING):  # and no more: who sends without end must not hold up the stop
            if not has_message(socket):
                break
            address, body = _split(_receive_frames(socket))
            outcome = codec.parse_request(body, self._served)
            self._refuse_stopping(socket, address, outcome.id)
        deadline_s = time.monotonic() + LAST_REPLIES_S
        while self._unread and time.monotonic() < deadline_s:
            time.sleep(RETRY_MS / 1000)
            self._unread.flush(socket)

    def _refuse_stopping(self, socket: Socket, address: Parts, request_id: Any) -> None:
        refusal = error_body(Unavailable("the daemon is stopping"))
        self._unread.send(socket, address, self._encoded(request_id, refusal))

    def _received_more_than_a_round(self, socket: Socket, connections: Connections) -> bool:
        """Take what came, for a while; returns whether there may be more."""
        ends_s = time.monotonic() + ROUND_S
        received = 0
        while received < RECEIVED_AT_ONCE and time.monotonic() < ends_s:
            if not has_message(socket):
                connections.intake.took_all()
                return False
            received += self._receive(socket, connections)
        return True

    def _receive(self, socket: Socket, connections: Connections) -> bool:
        """Take one message: hand its request over, or refuse it. Returns whether anybody waits for its answer."""
        frames = _receive_frames(socket)
        last = frames[-1]
        fd = descriptor_of(last)
        # Before the message is attributed: its descriptor may have been that of a connection which is gone.
        self._forget(connections.note())
        address, body = _split(frames)
        nbytes = sum(map(len, body))
        if not connections.may_send(fd, address[0], nbytes, len(frames)):
            return False
        user = user_of(last) if self._guard is not None else None
        connections.spoke(fd, user)
        if self._unread.is_full(address[0]):
            return False  # it would lose the answer
        outcome = self._judged(codec.parse_request(body, self._served), user, fd, nbytes)
        if isinstance(outcome, codec.Refusal):
            refusal = error_body(outcome.error)
            self._unread.send(socket, address, self._encoded(outcome.id, refusal))
            return True
        owner = _owner(user, address[0])
        request = Request(outcome, address, self._answer, owner, fd, nbytes)
        self._waiting.add(request)
        self._hand_over(request)
        return True

    def _judged(
        self, outcome: codec.ParsedRequest | codec.Refusal, user: str | None, fd: int, nbytes: int
    ) -> codec.ParsedRequest | codec.Refusal:
        """The request, or why it is refused: for what it says, for who sent it, for want of room."""
        if self._guard is not None and (user is None or not self._guard.allows(user)):
            return codec.Refusal(outcome.id, Forbidden("this key is not allowed any more"))
        if isinstance(outcome, codec.Refusal):
            return outcome
        full = self._waiting.no_room(fd, nbytes)
        return outcome if full is None else codec.Refusal(outcome.id, full)

    def _hand_over(self, request: Request) -> None:
        try:
            self._handle(request)
        except TrackerError as error:
            request.fail(error)
        except Exception:
            log.exception("%s failed", request.op)
            request.fail(INTERNAL)

    # --------------------------------------------------------------------------------------------- any thread

    def _answer(self, request: Request, result: Struct) -> None:
        try:
            payload = self._encoded(request.id, result)
        except TypeError:
            log.exception("the result of %s cannot be sent", request.op)
            payload = self._encoded(request.id, error_body(INTERNAL))
        self._outbox.put((request, payload))

    def answered(self) -> dict[str, int]:
        """How many requests were answered so far, by code; "ok": done."""
        with self._counting:
            return dict(self._answered)

    def _encoded(self, request_id: Any, result: Struct) -> bytes:
        with self._counting:
            self._answered[result.code if isinstance(result, ErrorBody) else "ok"] += 1
        if isinstance(result, ErrorBody):
            return codec.encode(ErrorReply(id=request_id, error=result, instance=self._instance))
        return codec.encode(Reply(id=request_id, result=result, instance=self._instance))


def _receive_frames(socket: Socket) -> list[zmq.Frame]:
    """One message. Parts beyond what is ever read are thrown away as they come, one more is kept to show for it."""
    frames = [socket.recv(copy=False)]
    while frames[-1].more:
        frame = socket.recv(copy=False)
        if len(frames) > MAX_PARTS + 2:
            frames.pop()
        frames.append(frame)
    return frames


def _owner(user: str | None, routing_id: bytes) -> bytes:
    if user is not None:
        return user.encode()
    return routing_id[:OWNER_BYTES] if len(routing_id) == ROUTING_ID_BYTES else routing_id


def _split(frames: list[zmq.Frame]) -> tuple[Parts, Parts]:
    """Address (with REQ's empty delimiter, where there is one) and body."""
    parts = [frame.bytes for frame in frames]
    end = 2 if parts[1:2] == [b""] else 1
    return parts[:end], parts[end:]
