"""The publish socket: records out to whoever subscribed, in order, numbered, and never waiting for anybody."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import zmq
from msgspec import structs

from tracker.protocol import codec
from tracker.protocol.replies import Published
from tracker.sockets.socket_thread import Mailbox, Socket, SocketThread

log = logging.getLogger(__name__)

MAX_QUEUED = 128  # messages between `publish` and the socket
MAX_SUBSCRIPTION_BYTES = 4096

Payload = Published | Callable[[], Published]


@dataclass(frozen=True, slots=True)
class _Message:
    topic: str
    seq: int
    payload: Payload
    image: bytes | Callable[[], bytes] | None


class Publisher:
    """Sends published records. `send_hwm` messages are kept for one slow subscriber; then it loses the newest."""

    def __init__(self, endpoint: str, send_hwm: int, instance: str) -> None:
        self._instance = instance
        self._prefixes: frozenset[bytes] = frozenset()  # replaced whole, so that any thread may read it
        self._seqs: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._outbox: Mailbox[_Message | None] = Mailbox()
        options = {zmq.SNDHWM: send_hwm, zmq.MAXMSGSIZE: MAX_SUBSCRIPTION_BYTES}
        self._thread = SocketThread("publish", zmq.XPUB, endpoint, options, self._serve)

    @property
    def endpoint(self) -> str:
        """As bound, once started: port `*` is a number then."""
        return self._thread.endpoint

    def start(self) -> None:
        """Bind and serve. Raises ConfigError where the endpoint cannot be had."""
        self._thread.start()

    def stop(self) -> None:
        """Send what is queued, close, and join."""
        self._outbox.put(None)
        self._thread.join()
        self._outbox.close()

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
            seq = self._seqs[topic]
            self._seqs[topic] += 1
            if len(self._outbox) < MAX_QUEUED:
                self._outbox.put(_Message(topic, seq, payload, image))

    # ------------------------------------------------------------------------------------ the socket's thread

    def _serve(self, socket: Socket) -> None:
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        poller.register(self._outbox.fileno(), zmq.POLLIN)
        while True:
            poller.poll()
            while socket.poll(0):
                self._note_subscription(socket.recv_multipart()[0])
            for message in self._outbox.take():
                if message is None:
                    return
                self._send(socket, message)

    def _note_subscription(self, notice: bytes) -> None:
        """XPUB tells the first subscriber to a prefix and the loss of the last one, lost connections included."""
        if notice[:1] == b"\1":
            self._prefixes |= {notice[1:]}
        elif notice[:1] == b"\0":
            self._prefixes -= {notice[1:]}

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
        stamped = structs.replace(
            payload, instance=self._instance, seq=message.seq, published_mono_ns=time.monotonic_ns()
        )
        parts = [message.topic.encode(), codec.encode(stamped)]
        return parts if image is None else [*parts, image]
