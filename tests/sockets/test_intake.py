"""Peers that send more than is read, over raw TCP: they are shut, and nothing else is different."""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgpack
import pytest
import zmq

from helpers.binds import BINDS, address_of
from helpers.waiting import wait_until
from tracker.config import LimitsConfig
from tracker.protocol.operations import OPERATIONS
from tracker.protocol.replies import Empty
from tracker.sockets import connections
from tracker.sockets.bound_address import BoundAddress
from tracker.sockets.connections import AT_ONCE
from tracker.sockets.control import ControlServer
from tracker.sockets.intake import Intake
from tracker.sockets.publisher import Publisher
from tracker.sockets.request import Request
from tracker.sockets.socket_server import DEFAULT_LIMITS

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
PING = b"\x04\x07\x04PING\0\0"
SUBSCRIPTIONS = b"\x00\x09\x01abcdefgh\x00\x09\x00abcdefgh" * 32
PATIENCE_MS = 20_000


@contextlib.contextmanager
def control(
    handle: Callable[[Request], None] = lambda request: request.reply(Empty()),
    bind: str = "tcp://127.0.0.1:*",
    limits: LimitsConfig = DEFAULT_LIMITS,
) -> Iterator[ControlServer]:
    server = ControlServer(bind, handle, OPERATIONS.keys() - {"history.list"}, "i1", limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def publish() -> Iterator[Publisher]:
    publisher = Publisher("tcp://127.0.0.1:*", 10, "i1", LimitsConfig())
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


@contextlib.contextmanager
def shaken(endpoint: str, kind: bytes) -> Iterator[socket.socket]:
    """A TCP connection that has done ZMTP's handshake."""
    with socket.create_connection(address_of(endpoint), timeout=20) as peer:
        body = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
        peer.sendall(GREETING + bytes([4, len(body)]) + body)
        heard = b""
        while b"READY" not in heard:
            heard += peer.recv(1024)
        yield peer


@contextlib.contextmanager
def looking(server: ControlServer | Publisher) -> Iterator[None]:
    """What the daemon's watch does."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            server.look()

    thread = threading.Thread(target=look)
    thread.start()
    yield
    ended.set()
    thread.join()


def cut_off(peer: socket.socket, part: bytes) -> bool:
    """Whether a peer that sends a part again and again is shut within a gigabyte.

    It hears so. What it sends fails as well, but not before a minute where it was shut while its window was closed.
    """
    sent = 0
    with contextlib.suppress(ConnectionError):
        while sent < 2**30:
            heard, free, _ = select.select([peer], [peer], [], PATIENCE_MS / 1000)
            if heard and not peer.recv(4096):
                return True
            if not heard and not free:
                return False
            if free:
                sent += peer.send(part[sent % len(part) :])
        return False
    return True


def answers(server: ControlServer) -> bool:
    with zmq.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(server.endpoint)
        client.send(msgpack.packb({"id": 7, "op": "server.info"}))
        return bool(client.poll(PATIENCE_MS)) and msgpack.unpackb(client.recv())["id"] == 7


@pytest.mark.parametrize("kind", ["control", "publish"])
def test_hanging_up_in_the_middle_of_much_harms_nobody(kind: str) -> None:
    """Pings behind messages that wait, and a reset: where ZeroMQ has stopped reading, that ends the process."""
    chunk, peer_kind = (b"\x00\x05hello" * 64, b"DEALER") if kind == "control" else (SUBSCRIPTIONS, b"SUB")
    with control() as server, publish() as publisher:
        endpoint = server.endpoint if kind == "control" else publisher.endpoint
        for _ in range(20):
            with contextlib.suppress(OSError), shaken(endpoint, peer_kind) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.sendall((chunk + PING) * 64)
        assert answers(server)
        assert publisher.is_alive()


@pytest.mark.parametrize("part_bytes", [1000, 60_000])
@pytest.mark.parametrize("kind", ["control", "publish"])
def test_a_message_without_an_end_is_cut_off(kind: str, part_bytes: int) -> None:
    part = b"\x03" + struct.pack(">Q", part_bytes) + bytes(part_bytes)
    with control() as server, publish() as publisher:
        asked = server if kind == "control" else publisher
        with looking(asked), shaken(asked.endpoint, b"DEALER" if kind == "control" else b"SUB") as peer:
            assert cut_off(peer, part)
        assert answers(server)


@pytest.mark.parametrize("bind", BINDS)
def test_a_flood_is_cut_off_wherever_the_socket_is_bound(bind: str) -> None:
    parts = (b"\x03" + struct.pack(">Q", 1000) + bytes(1000)) * 1000
    with control(bind=bind) as server, looking(server), shaken(server.endpoint, b"DEALER") as peer:
        intake, sent = server._thread._intake, 0
        assert intake is not None
        peer.setblocking(False)
        while intake.flooded_s < 0:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                sent += peer.send(parts[sent % len(parts) :])
            assert sent < 2**28, "it is never shut"


def test_a_flood_of_requests_is_not_answered_and_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MESSAGES_PER_S", 1)
    asked: list[Request] = []

    def answer(request: Request) -> None:
        asked.append(request)
        request.reply(Empty())

    message = msgpack.packb({"id": 1, "op": "server.info"})
    frame = b"\0" + bytes([len(message)]) + message
    with control(answer) as server, shaken(server.endpoint, b"DEALER") as peer:
        peer.sendall(frame * AT_ONCE * 8)
        wait_until(lambda: len(asked) > AT_ONCE // 4)
        assert answers(server)
        assert len(asked) < AT_ONCE * 4


def test_who_sends_no_faster_than_is_read_is_never_shut() -> None:
    body = msgpack.packb({"id": 1, "op": "objects.list", "args": {"stream": "x" * 64}})
    with control() as server, looking(server), zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.linger = 0
        client.rcvtimeo = PATIENCE_MS
        client.setsockopt(zmq.RECONNECT_IVL, -1)
        client.connect(server.endpoint)
        for size in [1, 10, 100_000, 900_000] * 5:
            client.send(body + bytes(size))  # refused, but read and answered
            assert not msgpack.unpackb(client.recv())["ok"]


def test_a_large_request_over_a_slow_link_after_many_small_ones_is_no_flood() -> None:
    """Small parts need ten times their bytes; what is unread of a large one does not."""
    large = b"\0" * 900_000  # refused, but read and answered
    with control() as server, shaken(server.endpoint, b"DEALER") as peer:
        for k in range(50):
            peer.sendall(frame_of(k))
            assert peer.recv(4096)
            server.look()
        intake = server._thread._intake
        assert intake is not None
        wait_until(lambda: intake.is_caught_up)
        peer.sendall(b"\2" + struct.pack(">Q", len(large)))
        for start in range(0, len(large), 50_000):
            peer.sendall(large[start : start + 50_000])
            server.look()
        answer = b""
        while b"bad_request" not in answer:
            more = peer.recv(4096)
            assert more, "it was taken for a flood"
            answer += more


def test_a_client_that_goes_on_by_the_same_name_is_heard_again() -> None:
    """A routing id outlives its connection where ZeroMQ connects again."""

    def heard() -> bool:
        with context.socket(zmq.DEALER) as client:
            client.linger = 0
            client.setsockopt(zmq.IDENTITY, b"the same one")
            client.connect(server.endpoint)
            client.send(msgpack.packb({"id": 1, "op": "server.info"}))
            return bool(client.poll(500))  # not where ZeroMQ has not let go of the last connection yet

    with control() as server, zmq.Context() as context:
        for _ in range(3):
            wait_until(heard)


def held_up() -> tuple[Callable[[Request], None], threading.Event]:
    """A handler that does not come back before the event is set."""
    go_on = threading.Event()

    def handle(request: Request) -> None:
        go_on.wait(60)
        request.reply(Empty())

    return handle, go_on


def test_who_spoke_before_many_came_is_heard() -> None:
    """Silent ones are shut for being too many, and it is silent only as long as nobody has read."""
    handle, go_on = held_up()
    with control(handle, limits=LimitsConfig(connections=2)) as server, contextlib.ExitStack() as stack:
        busy, good = (stack.enter_context(shaken(server.endpoint, b"DEALER")) for _ in range(2))
        busy.sendall(frame_of(1))
        wait_until(lambda: server._waiting.all())
        good.sendall(frame_of(2))
        for _ in range(2):
            stack.enter_context(shaken(server.endpoint, b"DEALER"))
        go_on.set()
        assert good.recv(4096)


def test_many_that_come_at_once_find_room_at_the_door() -> None:
    """Whoever finds none is not heard by the system, and tries again a second later."""
    with control() as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(socket.socket()) for _ in range(600)]
        for peer in peers:
            peer.setblocking(False)
            peer.connect_ex(address_of(server.endpoint))
        for peer in peers:
            assert select.select([], [peer], [], PATIENCE_MS / 1000)[1]
        assert sum(retries(peer) for peer in peers) == 0


def retries(peer: socket.socket) -> int:
    """`tcpi_total_retrans` of the kernel's struct tcp_info."""
    return int(struct.unpack_from("=I", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0])


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def frame_of(request_id: int) -> bytes:
    body = msgpack.packb({"op": "server.info", "id": [request_id, "x" * 20], "args": {}})
    return bytes([0, len(body)]) + body


def test_small_messages_that_wait_need_little_memory() -> None:
    """Each came by itself: with ZeroMQ's own receive buffers each would keep 3 kB and more."""
    handle, go_on = held_up()
    with control(handle) as server, shaken(server.endpoint, b"DEALER") as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        before_mib = resident_mib()
        for k in range(4000):
            peer.sendall(frame_of(k))
            time.sleep(0.0001)
        more_mib = resident_mib() - before_mib
        go_on.set()
    assert more_mib < 5


def test_who_comes_after_a_flood_is_let_in_once_it_is_read() -> None:
    handle, go_on = held_up()
    with control(handle) as server, looking(server):
        with shaken(server.endpoint, b"DEALER") as peer:
            assert cut_off(peer, frame_of(1) * 5000)
        with zmq.Context() as context, context.socket(zmq.DEALER) as good:
            good.linger = 0
            good.connect(server.endpoint)
            go_on.set()
            good.send(msgpack.packb({"op": "server.info", "id": 7, "args": {}}))
            assert good.poll(PATIENCE_MS * 3)
            assert msgpack.unpackb(good.recv())["id"] == 7


def test_what_is_left_of_who_hung_up_keeps_newcomers_away() -> None:
    intake = Intake(BoundAddress("tcp://127.0.0.1:1"), 1000)
    intake.leave(8001)
    assert intake.is_crowded
    intake.took_of_gone(100, 1)
    assert not intake.is_crowded
    intake.leave(9000)
    intake.took_all()
    assert not intake.is_crowded


@pytest.mark.parametrize("is_read", [True, False])
def test_newcomers_are_turned_away_where_what_others_left_is_still_not_read(is_read: bool) -> None:
    """Not before the round's end: what ended in the middle of a message counts as left until nothing waits."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        port = server.bind_to_random_port("tcp://127.0.0.1")
        known = connections.Connections(server, 10, max_ahead_bytes=1000)
        known.intake.leave(9000)
        try:
            with socket.create_connection(("127.0.0.1", port)):
                wait_until(lambda: (known.update(), len(known) == 1)[1])
                if is_read:
                    known.intake.took_all()
                assert len(known.turn_away()) == (0 if is_read else 1)
                assert len(known) == (1 if is_read else 0)
        finally:
            known.close()
