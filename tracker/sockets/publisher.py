"""The publish socket: records out to whoever subscribed, in order, numbered, and never waiting for anybody."""

import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from msgspec import structs

from tracker.config import LimitsConfig
from tracker.protocol import codec
from tracker.protocol.messages import Published
from tracker.sockets.connections import Connections, descriptor_of, user_of
from tracker.sockets.guard import Guard
from tracker.sockets.socket_server import DEFAULT_LIMITS, POLL_MS, SocketServer
from tracker.sockets.types import Socket

log = logging.getLogger(__name__)

MAX_QUEUED = 128  # messages between `publish` and the socket
MAX_TOPICS = 16384  # whose numbers are remembered: those that were published last
MAX_SUBSCRIPTION_BYTES = 4096
MAX_SUBSCRIPTIONS = 256  # of one connection
MAX_NOTICES_PER_S = 2000  # of one connection: subscribing and taking it back without end
# Taken between two messages. While more comes than that takes, no more is read for a while: each notice costs time
# of the model, which needs the interpreter as well.
NOTICES_S, REST_S = 0.003, 0.009
# Of the kernel, for each connection: subscriptions are small, and a peer that sends without end is slowed by it.
RECEIVE_BYTES = 2048
MAX_AHEAD_BYTES = 2**20  # of subscriptions that were sent and not read

Payload = Published | Callable[[], Published]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    seq: int
    payload: Payload
    image: bytes | Callable[[], bytes] | None


class _Subscriber:
    """What one connection subscribed to, and how often it changes its mind."""

    def __init__(self) -> None:
        self.prefixes: set[bytes] = set()
        self._second = 0
        self._notices = 0

    def too_busy(self) -> bool:
        second = int(time.monotonic())
        self._notices = self._notices + 1 if second == self._second else 1
        self._second = second
        return self._notices > MAX_NOTICES_PER_S


class Publisher(SocketServer[_Message]):
    """Sends published records. `send_hwm` messages are kept for one slow subscriber; then it loses the newest. What
    is queued when it stops is still sent."""

    def __init__(
        self,
        endpoint: str,
        send_hwm: int,
        instance: str,
        limits: LimitsConfig = DEFAULT_LIMITS,
        guard: Guard | None = None,
    ) -> None:
        self._instance = instance
        self._prefixes: frozenset[bytes] = frozenset()  # replaced whole, so that any thread may read it
        self._max_subscriptions = limits.subscriptions
        self._subscribers: dict[int, _Subscriber] = {}  # by connection
        self._seqs: OrderedDict[str, int] = OrderedDict()  # the next one's, by topic, the latest last
        self._forgotten_seq = 0
        self._lock = threading.Lock()
        options = {
            zmq.SNDHWM: send_hwm,
            zmq.MAXMSGSIZE: MAX_SUBSCRIPTION_BYTES,
            zmq.RCVBUF: RECEIVE_BYTES,
            zmq.XPUB_MANUAL: 1,
        }
        super().__init__("publish", zmq.XPUB, endpoint, options, limits, guard, MAX_AHEAD_BYTES)

    def wanted(self, topic: str) -> bool:
        """Whether somebody subscribes to `topic` now, so that nothing is computed for nobody."""
        name, prefixes = topic.encode(), self._prefixes
        return any(name[:length] in prefixes for length in range(len(name) + 1))

    def publish(self, topic: str, payload: Payload, image: bytes | Callable[[], bytes] | None = None) -> None:
        """Queue a message, from any thread, at once; nothing where nobody wants it.

        A callable payload or image is called in the publisher's thread. Where the queue is full the message is
        dropped, and the topic's `seq` shows it.
        """
        if not self.wanted(topic):
            return
        with self._lock:
            seq = self._next_seq(topic)
            if len(self._outbox) < MAX_QUEUED:
                self._outbox.put(_Message(topic, seq, payload, image))

    def _next_seq(self, topic: str) -> int:
        """Topics come and go for ever. One that was forgotten begins above all that were, so that no number comes
        twice to whoever still listens."""
        seq = self._seqs.get(topic, self._forgotten_seq)
        self._seqs[topic] = seq + 1
        self._seqs.move_to_end(topic)
        if len(self._seqs) > MAX_TOPICS:
            _, forgotten = self._seqs.popitem(last=False)
            self._forgotten_seq = max(self._forgotten_seq, forgotten)
        return seq

    # ------------------------------------------------------------------------------------ the socket's thread

    def _serve(self, socket: Socket, connections: Connections) -> None:
        resting, reading = zmq.Poller(), zmq.Poller()
        for readable in (connections.monitor, self._outbox.fileno()):
            resting.register(readable, zmq.POLLIN)
            reading.register(readable, zmq.POLLIN)
        reading.register(socket, zmq.POLLIN)
        rest_until_s = 0.0
        while True:
            rest_s = rest_until_s - time.monotonic()
            if rest_s > 0:
                resting.poll(math.ceil(rest_s * 1000))
            else:
                reading.poll(POLL_MS)
            with self._round(socket, connections):
                rested = time.monotonic() >= rest_until_s
                if rested and self._took_more_than_a_round(socket, connections):
                    rest_until_s = time.monotonic() + REST_S
                self._forget(connections.update())
                self._forget(connections.turn_away())
                for message in self._outbox.take():
                    if message is None:
                        return
                    self._send(socket, message)

    def _took_more_than_a_round(self, socket: Socket, connections: Connections) -> bool:
        """Take notices for a while; returns whether there may be more."""
        ends_s = time.monotonic() + NOTICES_S
        changed = False
        while more := bool(socket.poll(0)):  # without the interpreter: XPUB reads all that came, however much
            changed |= self._note(socket, _receive_notice(socket), connections)
            if time.monotonic() > ends_s:
                break
        if changed:
            self._tell_wanted()
        if not more:
            connections.intake.took_all()
        return more

    def _note(self, socket: Socket, notice: zmq.Frame, connections: Connections) -> bool:
        """Returns whether something changed. What a lost connection had subscribed to comes without a descriptor,
        and is gone already."""
        fd = descriptor_of(notice)
        self._forget(connections.note())  # before: the descriptor may have been another connection's
        if fd not in connections:
            connections.intake.took_of_gone(len(notice), 1)
            return False
        connections.intake.took(fd, len(notice), 1)
        connections.spoke(fd, user_of(notice))
        subscriber = self._subscribers.setdefault(fd, _Subscriber())
        why = self._apply(socket, notice.bytes, subscriber)
        if subscriber.too_busy():
            why = f"it changes its subscriptions more than {MAX_NOTICES_PER_S} times a second"
        if why is not None and connections.shut(fd, why):
            self._forget([fd])
        return True

    def _apply(self, socket: Socket, notice: bytes, subscriber: _Subscriber) -> str | None:
        """Subscribe or unsubscribe; why not, where that would be too much. The socket applies what is set to the
        connection that the notice came over."""
        kind, prefix = notice[:1], notice[1:]
        if kind == b"\0":
            socket.setsockopt(zmq.UNSUBSCRIBE, prefix)
            subscriber.prefixes.discard(prefix)
        elif kind == b"\1" and prefix not in subscriber.prefixes:
            why = self._no_room(subscriber)
            if why is not None:
                return why
            socket.setsockopt(zmq.SUBSCRIBE, prefix)
            subscriber.prefixes.add(prefix)
        return None

    def _no_room(self, subscriber: _Subscriber) -> str | None:
        """Why a connection may not subscribe to more."""
        if len(subscriber.prefixes) >= MAX_SUBSCRIPTIONS:
            return f"it has {MAX_SUBSCRIPTIONS} subscriptions and wants more"
        in_all = sum(len(other.prefixes) for other in self._subscribers.values())
        if in_all >= self._max_subscriptions:
            return f"there are {self._max_subscriptions} subscriptions (limits.subscriptions), and it wants more"
        return None

    def _forget(self, gone: list[int]) -> None:
        for fd in gone:
            self._subscribers.pop(fd, None)
        if gone:
            self._tell_wanted()

    def _tell_wanted(self) -> None:
        """What anybody subscribes to, for the threads that publish."""
        prefixes = [subscriber.prefixes for subscriber in self._subscribers.values()]
        self._prefixes = frozenset().union(*prefixes)

    def _send(self, socket: Socket, message: _Message) -> None:
        try:
            parts = self._parts(message)
        except Exception:  # one message's trouble must not silence all others; its seq shows the gap
            log.exception("a message of %s could not be made", message.topic)
            return
        socket.send_multipart(parts, zmq.NOBLOCK)  # XPUB drops for who is slow; it never blocks

    def _parts(self, message: _Message) -> list[bytes]:
        payload = message.payload() if callable(message.payload) else message.payload
        image = message.image() if callable(message.image) else message.image
        now_ns = time.monotonic_ns()
        stamped = structs.replace(payload, instance=self._instance, seq=message.seq, published_mono_ns=now_ns)
        parts = [message.topic.encode(), codec.encode(stamped)]
        if image is not None:
            parts.append(image)
        return parts


def _receive_notice(socket: Socket) -> zmq.Frame:
    """One message's first part; further ones say nothing."""
    notice = socket.recv(copy=False)
    more = bool(notice.more)
    while more:
        more = bool(socket.recv(copy=False).more)
    return notice
