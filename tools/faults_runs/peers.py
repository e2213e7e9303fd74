"""The peers: each is a function of a daemon's ports and a number of seconds, and ends by itself."""

import multiprocessing
import os
import random
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.synchronize import Event

import msgpack
import zmq

from faults_runs.daemon import STREAM, Target

Peer = Callable[[Target, float], None]
START_S = 60.0  # of a process, on a busy machine
_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_PONG = b"\x04\x05\x04PONG"
_PING = b"\x04\x07\x04PING\0\0"
_SMALL = b"\x00\x05hello"  # one message of one part


def wrapping_run_lengths(target: Target, _: float) -> None:
    """COCO run lengths whose sum is the picture's size only after wrapping 64 bits."""
    height, width, big, rising, plateau = 480, 854, 2**34 - 1, 10_000, 20_000
    flat_n, rest = divmod(2**64 + height * width - big * rising * (rising + 1) // 2, big * rising)
    odd = [big] * rising + [0] * flat_n
    odd[-plateau] += rest // plateau
    odd[-1] += rest % plateau
    counts = b"".join(_coco(value) for value in [0, *(v for run in odd for v in (run, 0))])
    _ask(target, "objects.add", {"stream": STREAM, "mask": {"size": [height, width], "counts": counts}})


def long_keys_over_many_values(target: Target, _: float) -> None:
    """Requests whose paths, if written out for each value, would take gigabytes."""
    for key_chars, lists in ((900_000, 1), (50_000, 13)):
        value: list[object] = [0] * 4095
        for _i in range(lists - 1):
            value = [0] * 4095 + [value]
        _ask(target, "x", {"k" * key_chars: value})


def idle_connections(target: Target, seconds: float) -> None:
    """1,100 connections that say nothing."""
    opened: list[socket.socket] = []
    with suppress(OSError):
        opened += (socket.create_connection(("127.0.0.1", target.control_port), timeout=2) for _ in range(1100))
    time.sleep(seconds)
    for connection in opened:
        connection.close()


def many_subscriptions(target: Target, seconds: float) -> None:
    """One subscriber with 60,000 topics."""
    with zmq.Context() as context, context.socket(zmq.SUB) as greedy:
        greedy.linger = 0
        greedy.sndhwm = 0
        greedy.connect(f"tcp://127.0.0.1:{target.publish_port}")
        time.sleep(0.3)
        for _ in range(60_000):
            greedy.subscribe(os.urandom(12))
        time.sleep(seconds)


def flood_of_subscriptions(target: Target, seconds: float) -> None:
    """Subscribing and taking it back without end, connecting again whenever it is shut."""
    chunk = (b"\x00\x09\x01abcdefgh" + b"\x00\x09\x00abcdefgh") * 2000 + _PONG
    _send_for(target.publish_port, b"SUB", chunk, seconds)


def endless_parts_to_control(target: Target, seconds: float) -> None:
    """A message that has always one part more."""
    _send_for(target.control_port, b"DEALER", _part(b"\2" * 60_000) * 16 + _PONG, seconds, 2**30)


def endless_parts_to_publish(target: Target, seconds: float) -> None:
    """The same, to the other socket."""
    _send_for(target.publish_port, b"SUB", _part(b"\2" * 4000) * 200 + _PONG, seconds, 2**30)


def replies_unread(target: Target, seconds: float) -> None:
    """Pictures asked for and never read."""
    with _raw(target.control_port, b"DEALER", receive_bytes=4096) as peer:
        message = msgpack.packb({"op": "frames.get", "id": 1, "args": {"stream": STREAM, "format": "png"}})
        frame = b"\0" + bytes([len(message)]) + message
        deadline_s = time.monotonic() + seconds
        with suppress(OSError):
            while time.monotonic() < deadline_s:
                peer.sendall(frame * 10 + _PONG)
                time.sleep(0.1)


def flood_of_pictures(target: Target, seconds: float) -> None:
    """Sixteen clients that keep sixteen pictures under way each."""
    _keep_asking(target, "frames.get", {"stream": STREAM, "format": "png"}, seconds)


def flood_of_searches(target: Target, seconds: float) -> None:
    """Sixteen clients that look for everything, in the largest batches."""
    args = {"stream": STREAM, "points_per_batch": 1024, "points_per_side": 32}
    _keep_asking(target, "segment.all", args, seconds)


def random_messages(target: Target, seconds: float) -> None:
    """Right requests with bytes changed, and noise."""
    chance = random.Random(0)
    right = [
        msgpack.packb(
            {"op": "objects.refine", "id": 1, "args": {"stream": STREAM, "object": 1, "points": [[9, 9]]}}
        ),
        msgpack.packb({"op": "objects.list", "id": 1, "args": {"stream": STREAM}}),
        msgpack.packb({"op": "segment.cancel", "id": 1, "args": {"id": True}}),
    ]
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(target.control)
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            message = bytearray(chance.choice(right))
            for _ in range(chance.randint(1, 4)):
                message[chance.randrange(len(message))] = chance.randrange(256)
            with suppress(zmq.Again):
                peer.send(bytes(message) if chance.random() < 0.8 else chance.randbytes(200), zmq.NOBLOCK)
            while peer.poll(0):
                peer.recv()


def hanging_up_on_control(target: Target, seconds: float) -> None:
    """More messages than are read at once, pings among them, and the connection reset at once."""
    _reset_for(target.control_port, b"DEALER", _SMALL * 64 + _PING, seconds)


def hanging_up_on_publish(target: Target, seconds: float) -> None:
    """The same with subscriptions."""
    _reset_for(target.publish_port, b"SUB", b"\x00\x09\x01abcdefgh\x00\x09\x00abcdefgh" * 32 + _PING, seconds)


PEERS: dict[str, Peer] = {
    peer.__name__: peer
    for peer in (
        wrapping_run_lengths,
        long_keys_over_many_values,
        idle_connections,
        many_subscriptions,
        flood_of_subscriptions,
        replies_unread,
        flood_of_pictures,
        flood_of_searches,
        random_messages,
        hanging_up_on_control,
        hanging_up_on_publish,
        endless_parts_to_control,
        endless_parts_to_publish,
    )
}


class PeerProcess:
    """A peer in a process of its own: in this one it would keep the good client from the interpreter."""

    def __init__(self, peer: Peer, target: Target, seconds: float) -> None:
        """Returns once it has begun."""
        context = multiprocessing.get_context("spawn")
        begun = context.Event()
        self._process = context.Process(target=_begin, args=(begun, peer, target, seconds))
        self._process.start()
        begun.wait(START_S)

    def join(self, timeout_s: float) -> bool:
        """Whether it did what it is there for: it was not shut out."""
        self._process.join(timeout_s)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
            return True
        return self._process.exitcode == 0


def _begin(begun: Event, peer: Peer, target: Target, seconds: float) -> None:
    begun.set()
    try:
        peer(target, seconds)
    except OSError as error:
        sys.exit(f"{peer.__name__}: {error}")


def _ask(target: Target, op: str, args: dict[str, object]) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(target.control)
        peer.send(msgpack.packb({"op": op, "id": 1, "args": args}))
        peer.poll(10_000)


def _keep_asking(target: Target, op: str, args: dict[str, object], seconds: float, clients: int = 16) -> None:
    message = msgpack.packb({"op": op, "id": 1, "args": args})
    with zmq.Context() as context:
        peers = [context.socket(zmq.DEALER) for _ in range(clients)]
        for peer in peers:
            peer.linger = 0
            peer.connect(target.control)
            for _ in range(16):
                peer.send(message)
        deadline_s = time.monotonic() + seconds
        while time.monotonic() < deadline_s:
            time.sleep(0.01)
            for peer in peers:
                while peer.poll(0):
                    peer.recv()
                    peer.send(message)
        for peer in peers:
            peer.close()


def _send_for(port: int, kind: bytes, chunk: bytes, seconds: float, most_bytes: int = 2**40) -> None:
    """Send a chunk again and again; connect again where the connection is shut."""
    deadline_s, sent = time.monotonic() + seconds, 0
    while time.monotonic() < deadline_s and sent < most_bytes:
        with suppress(OSError), _raw(port, kind) as peer:
            while time.monotonic() < deadline_s and sent < most_bytes:
                peer.sendall(chunk)
                sent += len(chunk)


def _reset_for(port: int, kind: bytes, chunk: bytes, seconds: float) -> None:
    """Connect, send 64 chunks and reset the connection, again and again."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        with suppress(OSError), _raw(port, kind) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sendall(chunk * 64)


def _raw(port: int, kind: bytes, receive_bytes: int | None = None) -> socket.socket:
    """A connection that has done ZMTP 3.0's handshake."""
    peer = socket.socket()
    peer.settimeout(2)
    try:
        if receive_bytes is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        peer.connect(("127.0.0.1", port))
        peer.sendall(_GREETING)
        body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        peer.sendall(bytes([4, len(body)]) + body)
        time.sleep(0.05)
    except OSError:
        peer.close()
        raise
    return peer


def _part(body: bytes) -> bytes:
    """A frame with MORE set."""
    return b"\x03" + struct.pack(">Q", len(body)) + body


def _coco(value: int) -> bytes:
    """COCO's groups of five bits."""
    out = bytearray()
    more = True
    while more:
        group, value = value & 0x1F, value >> 5
        more = value != (-1 if group & 0x10 else 0)
        out.append((group | more << 5) + 48)
    return bytes(out)
