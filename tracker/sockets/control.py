"""The control socket: bytes in, typed requests out to a handler, and exactly one reply to each of them."""

import logging
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection
from typing import Any

import zmq
from msgspec import Struct

from tracker.config import LimitsConfig
from tracker.errors import AtCapacity, Forbidden, TrackerError, Unavailable
from tracker.protocol import codec
from tracker.protocol.fields import MAX_BYTES, MAX_PARTS
from tracker.protocol.replies import ErrorBody, ErrorReply, Reply
from tracker.sockets.connections import NOBODY, Connections, descriptor_of, user_of
from tracker.sockets.guard import Guard
from tracker.sockets.socket_thread import Mailbox, SocketThread
from tracker.sockets.types import Socket

log = logging.getLogger(__name__)

MAX_WAITING = 256  # requests of one connection that are not answered; further ones are refused
MAX_WAITING_IN_ALL = 1024  # then only who has none waiting is let in
MAX_WAITING_BYTES = 32 * 2**20  # likewise, of all requests that are not answered
MAX_UNREAD = 2 * MAX_WAITING  # replies kept for one client that does not read them; further ones it loses
MAX_UNREAD_BYTES = 16 * 2**20  # likewise
REPLIES_IN_SOCKET = 4  # handed to ZeroMQ for one client, which counts messages and not bytes
SHED_POLL_MS = 250
RETRY_MS = 10  # until a client that did not read is tried again
RECEIVED_AT_ONCE = 64  # requests, between two rounds of replies
MAX_PART_BYTES = 2 * MAX_BYTES  # up to here a request that is too large is told so; beyond, it is cut off
MAX_MESSAGE_CHARS = 1000
LAST_REPLIES_S = 0.2
DEFAULT_LIMITS = LimitsConfig()
# A routing id of this length is an owner's token and a connection's own part: a client that opens a connection per
# call owns what it asked for on all of them.
ROUTING_ID_BYTES, OWNER_BYTES = 24, 16

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
        self._answer(self, _body(error))


class _Unread:
    """Replies that ZeroMQ has not taken yet, because their clients do not read. Bounded by number and bytes."""

    def __init__(self, max_bytes_in_all: int) -> None:
        self._max_bytes_in_all = max_bytes_in_all
        self._nbytes = 0
        self._by_client: dict[bytes, deque[Parts]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_client)

    def send(self, socket: Socket, address: Parts, payload: bytes) -> None:
        parts = [*address, payload]
        waiting = self._by_client.get(address[0])
        if waiting is None:
            if _sent(socket, parts):
                return
            waiting = self._by_client[address[0]] = deque()
        kept = sum(len(other[-1]) for other in waiting)
        room = min(MAX_UNREAD_BYTES - kept, self._max_bytes_in_all - self._nbytes)
        if len(waiting) >= MAX_UNREAD or len(payload) > room:
            log.warning("a reply of %d bytes is lost: its client does not read", len(payload))
            return
        waiting.append(parts)
        self._nbytes += len(payload)

    def flush(self, socket: Socket) -> None:
        """Send as far as it goes."""
        for client, waiting in list(self._by_client.items()):
            while waiting and _sent(socket, waiting[0]):
                self._nbytes -= len(waiting.popleft()[-1])
            if not waiting:
                del self._by_client[client]


class ControlServer:
    """Serves the operations in `served` by calling `handle` from the socket's thread.

    `handle` must not block: it either answers at once or keeps the request for another thread. A TrackerError that
    it raises becomes the reply.
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
        self._waiting: dict[int, set[Request]] = defaultdict(set)  # by connection
        self._waiting_n = 0
        self._waiting_bytes = 0
        self._answered: Counter[str] = Counter()  # by code; "ok" for what was not refused
        self._counting = threading.Lock()
        self._unread = _Unread(round(limits.replies_mib * 2**20))
        self._shed = threading.Event()
        self._answers: Mailbox[tuple[Request, bytes] | None] = Mailbox()
        self.busy_since_s: float | None = None  # while a round of the loop is under way
        options = {
            zmq.SNDHWM: REPLIES_IN_SOCKET,
            zmq.RCVHWM: MAX_WAITING,
            zmq.MAXMSGSIZE: MAX_PART_BYTES,
            zmq.ROUTER_MANDATORY: 1,
        }
        self._guard = guard
        self._thread = SocketThread(
            "control", zmq.ROUTER, endpoint, options, self._serve, limits.connections, guard
        )

    @property
    def endpoint(self) -> str:
        """As bound, once started: port `*` is a number then."""
        return self._thread.endpoint

    def start(self) -> None:
        """Bind and serve. Raises ConfigError where the endpoint cannot be had."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Answer whatever is open with `unavailable`, close, and join."""
        self._answers.put(None)
        self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._answers.close()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def shed(self) -> None:
        """Shut the newer half of the connections, for want of memory. From any thread; takes effect in a moment."""
        self._shed.set()

    # ------------------------------------------------------------------------------------ the socket's thread

    def _serve(self, socket: Socket, connections: Connections) -> None:
        poller = zmq.Poller()
        for readable in (self._answers.fileno(), connections.monitor, socket):
            poller.register(readable, zmq.POLLIN)
        while True:
            self.busy_since_s = None
            poller.poll(RETRY_MS if self._unread else SHED_POLL_MS)
            self.busy_since_s = time.monotonic()
            if self._shed.is_set():
                self._shed.clear()
                self._forget(connections.shed())
            self._unread.flush(socket)
            if not self._send_answers(socket):
                return
            for _ in range(RECEIVED_AT_ONCE):
                if not socket.poll(0):
                    break
                self._receive(socket, connections)
            self._forget(connections.update())

    def _send_answers(self, socket: Socket) -> bool:
        """False when it is time to stop."""
        for answer in self._answers.take():
            if answer is None:
                self._refuse_waiting(socket)
                return False
            request, payload = answer
            if self._taken_out(request):
                self._unread.send(socket, request.address, payload)
        return True

    def _taken_out(self, request: Request) -> bool:
        """Whether it still waited."""
        waiting = self._waiting.get(request.fd, set())
        if request not in waiting:
            return False
        waiting.remove(request)
        if not waiting:
            del self._waiting[request.fd]
        self._waiting_n -= 1
        self._waiting_bytes -= request.nbytes
        return True

    def _forget(self, gone: list[int]) -> None:
        """Nobody waits for the requests of connections that went."""
        for fd in gone:
            for request in list(self._waiting.get(fd, ())):
                request.gone = True
                self._taken_out(request)

    def _refuse_waiting(self, socket: Socket) -> None:
        refusal = _body(Unavailable("the daemon is stopping"))
        for request in [request for waiting in self._waiting.values() for request in waiting]:
            self._unread.send(socket, request.address, self._encoded(request.id, refusal))
        for _ in range(MAX_WAITING):  # and no more: who sends without end must not hold up the stop
            if not socket.poll(0):
                break
            address, body = _split([frame.bytes for frame in _receive_frames(socket)])
            outcome = codec.parse_request(body, self._served)
            self._unread.send(socket, address, self._encoded(outcome.id, refusal))
        deadline_s = time.monotonic() + LAST_REPLIES_S
        while self._unread and time.monotonic() < deadline_s:
            time.sleep(RETRY_MS / 1000)
            self._unread.flush(socket)

    def _receive(self, socket: Socket, connections: Connections) -> None:
        frames = _receive_frames(socket)
        fd = descriptor_of(frames[-1])
        # Before the message is attributed: its descriptor may have been that of a connection which is gone.
        self._forget(connections.update())
        user = user_of(frames[-1])
        connections.spoke(fd, user)
        address, body = _split([frame.bytes for frame in frames])
        outcome = codec.parse_request(body, self._served)
        nbytes = sum(map(len, body))
        if self._guard is not None and (user is None or not self._guard.allows(user)):
            outcome = codec.Refusal(outcome.id, Forbidden("this key is not allowed any more"))
        elif isinstance(outcome, codec.ParsedRequest) and (full := self._no_room(fd, nbytes)):
            outcome = codec.Refusal(outcome.id, full)
        if isinstance(outcome, codec.Refusal):
            self._unread.send(socket, address, self._encoded(outcome.id, _body(outcome.error)))
            return
        request = Request(outcome, address, self._answer, _owner(user, address[0]), fd, nbytes)
        request.gone = fd != NOBODY and fd not in connections
        self._waiting[fd].add(request)
        self._waiting_n += 1
        self._waiting_bytes += nbytes
        self._hand_over(request)

    def _no_room(self, fd: int, nbytes: int) -> AtCapacity | None:
        """Why this connection may not have one more request waiting. Who has none waiting always may: connections
        are bounded themselves."""
        own = len(self._waiting.get(fd, ()))
        if own >= MAX_WAITING:
            return AtCapacity(f"{own} requests of this connection wait for an answer; read some first")
        full = self._waiting_n >= MAX_WAITING_IN_ALL or self._waiting_bytes + nbytes > MAX_WAITING_BYTES
        if own and full:
            return AtCapacity(f"{self._waiting_n} requests wait for an answer, {own} of this connection; try again")
        return None

    def _hand_over(self, request: Request) -> None:
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


_INTERNAL = TrackerError("an error of the daemon's own; its log says more")


def _body(error: TrackerError) -> ErrorBody:
    return ErrorBody(code=error.code, message=error.message[:MAX_MESSAGE_CHARS])


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


def _split(parts: Parts) -> tuple[Parts, Parts]:
    """Address (with REQ's empty delimiter, where there is one) and body."""
    end = 2 if parts[1:2] == [b""] else 1
    return parts[:end], parts[end:]


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
