"""The control socket with real clients: one reply to every request, whatever the client and the handler do."""

import contextlib
import fcntl
import os
import queue
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from helpers.binds import BINDS, address_of, reached
from helpers.waiting import wait_until
from tracker.config import LimitsConfig
from tracker.errors import ConfigError, UnknownObject
from tracker.protocol.fields import MAX_BYTES
from tracker.protocol.operations import OPERATIONS
from tracker.protocol.replies import Empty, ObjectList, Removed
from tracker.sockets.control import ControlServer
from tracker.sockets.request import Request
from tracker.sockets.socket_server import DEFAULT_LIMITS
from tracker.sockets.socket_thread import Mailbox
from tracker.sockets.unread import MAX_UNREAD_BYTES
from tracker.sockets.waiting import MAX_WAITING

LOOPBACK = "tcp://127.0.0.1:*"
SERVED = OPERATIONS.keys() - {"history.list"}
PATIENCE_MS = 20_000


@contextmanager
def serving(
    handle: Callable[[Request], None], endpoint: str = LOOPBACK, limits: LimitsConfig = DEFAULT_LIMITS
) -> Iterator[ControlServer]:
    server = ControlServer(endpoint, handle, SERVED, "i1", limits)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def connected(server: ControlServer, kind: int = zmq.REQ) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(kind) as client:
        client.linger = 0
        client.rcvtimeo = PATIENCE_MS
        client.ipv6 = "[" in server.endpoint
        client.connect(reached(server.endpoint))
        yield client


def request(op: str, args: dict[str, Any] | None = None, id_: object = 1) -> bytes:
    return msgpack.packb({"id": id_, "op": op, "args": args or {}})


def ask(client: "zmq.Socket[bytes]", op: str, args: dict[str, Any] | None = None, id_: object = 1) -> Any:
    client.send(request(op, args, id_))
    return msgpack.unpackb(client.recv())


def answer_empty(request: Request) -> None:
    request.reply(Empty())


def test_a_reply_carries_version_id_result_and_instance() -> None:
    def handle(request: Request) -> None:
        assert request.op == "objects.remove"
        request.reply(Removed(removed=[request.args.object]))

    with serving(handle) as server, connected(server) as client:
        assert ask(client, "objects.remove", {"stream": "cam1", "object": 4}, {"any": [b"id"]}) == {
            "v": 1,
            "id": {"any": [b"id"]},
            "ok": True,
            "result": {"removed": [4], "durable": False},
            "instance": "i1",
        }


def test_an_error_carries_code_and_message() -> None:
    def handle(_: Request) -> None:
        raise UnknownObject("object: 4 is not there")

    with serving(handle) as server, connected(server) as client:
        assert ask(client, "objects.list") == {
            "v": 1,
            "id": 1,
            "ok": False,
            "error": {"code": "unknown_object", "message": "object: 4 is not there"},
            "instance": "i1",
        }


WRONG: list[tuple[list[bytes], str]] = [
    ([b"not msgpack at all"], "bad_request"),
    ([b""], "bad_request"),
    ([b"\x93\x01\x02\x03"], "bad_request"),
    ([os.urandom(512)], "bad_request"),
    ([request("objects.list"), b"second part"], "bad_request"),
    ([b"x"] * 200, "too_large"),
    ([b"\x80" * (2**20 + 1)], "too_large"),
    ([b"\xdd\x00\x10\x00\x00" + b"\x80" * 2**19], "too_large"),
    ([request("objects.fly")], "unknown_op"),
    ([request("history.list")], "unknown_op"),  # of the protocol, but not served here
    ([request("objects.list", {"strem": "cam1"})], "bad_request"),
    ([request("objects.add", {"stream": "cam1", "points": [[float("nan"), 1]]})], "bad_prompt"),
    ([request("objects.list", {"stream": "x" * 10**6})], "bad_request"),
    ([msgpack.packb({"v": 9, "op": "objects.list"})], "unsupported_version"),
]


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_wrong_commands_get_one_clear_answer_each_and_the_next_right_one_is_served(kind: int) -> None:
    handled = []

    def handle(request: Request) -> None:
        handled.append(request.op)
        request.reply(ObjectList(objects=[]))

    with serving(handle) as server, connected(server, kind) as client:
        for parts, code in WRONG:
            client.send_multipart(parts)
            reply = msgpack.unpackb(client.recv_multipart()[-1])
            assert (reply["ok"], reply["error"]["code"]) == (False, code), reply
            assert 0 < len(reply["error"]["message"]) <= 1000
        assert handled == []
        assert ask(client, "objects.list")["ok"]


@pytest.mark.parametrize("delimiter", [[], [b""]])
def test_dealer_clients_get_their_replies_framed_as_they_asked(delimiter: list[bytes]) -> None:
    with serving(answer_empty) as server, connected(server, zmq.DEALER) as client:
        for id_ in ("same", "same", "other"):
            client.send_multipart([*delimiter, request("server.info", id_=id_)])
        for id_ in ("same", "same", "other"):
            *framing, payload = client.recv_multipart()
            assert framing == delimiter
            assert msgpack.unpackb(payload)["id"] == id_


def test_answers_come_from_any_thread_in_any_order_and_only_the_first_counts() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    with serving(held.put) as server, connected(server, zmq.DEALER) as client:
        for i in range(20):
            client.send(request("server.info", id_=i))
        requests = [held.get(timeout=20) for _ in range(20)]
        threads = [threading.Thread(target=lambda r=r: (r.reply(Empty()), r.reply(Empty()))) for r in requests]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(msgpack.unpackb(client.recv())["id"] for _ in range(20)) == list(range(20))
        client.send(request("objects.list", id_="last"))
        held.get(timeout=20).reply(Empty())
        assert msgpack.unpackb(client.recv())["id"] == "last"


def test_one_connection_has_a_bounded_number_of_requests_waiting_and_others_are_let_in() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    with serving(held.put) as server, connected(server, zmq.DEALER) as client, connected(server) as other:
        for i in range(MAX_WAITING + 50):
            client.send(request("server.info", id_=i))
        first = [held.get(timeout=20) for _ in range(MAX_WAITING)]
        refused = [msgpack.unpackb(client.recv()) for _ in range(50)]
        assert {reply["error"]["code"] for reply in refused} == {"at_capacity"}
        assert {reply["id"] for reply in refused} == set(range(MAX_WAITING, MAX_WAITING + 50))
        other.send(request("server.info", id_="other"))
        held.get(timeout=20).reply(Empty())
        assert msgpack.unpackb(other.recv())["ok"]
        for waiting in first:
            waiting.reply(Empty())
        assert {msgpack.unpackb(client.recv())["id"] for _ in first} == set(range(MAX_WAITING))


def test_replies_that_nobody_reads_are_bounded_in_bytes() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    megabyte = ObjectList(objects=["x" * 2**20])  # type: ignore[list-item]
    with serving(held.put) as server, connected(server, zmq.DEALER) as deaf, connected(server) as other:
        deaf.rcvhwm = 1
        for _ in range(100):
            deaf.send(request("objects.list"))
        # Of a client that loses replies no further requests are taken, so fewer than 100 come.
        with contextlib.suppress(queue.Empty):
            while True:
                held.get(timeout=1).reply(megabyte)
        assert 0 < server._unread._nbytes <= MAX_UNREAD_BYTES
        other.send(request("server.info"))
        held.get(timeout=20).reply(Empty())
        assert msgpack.unpackb(other.recv())["ok"]


def test_who_goes_away_is_known_to_the_request() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    with serving(held.put) as server:
        with connected(server, zmq.DEALER) as client:
            client.send(request("server.info"))
            orphan = held.get(timeout=20)
            assert not orphan.gone
        wait_until(lambda: orphan.gone)


@pytest.mark.parametrize("bind", BINDS)
def test_connections_are_bounded_and_who_speaks_is_kept(bind: str) -> None:
    limits = LimitsConfig(connections=8)
    with serving(answer_empty, bind, limits) as server, connected(server) as early:
        assert ask(early, "server.info")["ok"]
        idle = [socket.create_connection(address_of(server.endpoint)) for _ in range(40)]
        try:
            for connection in idle[:32]:
                connection.settimeout(20)
                while connection.recv(64):
                    pass
        except ConnectionResetError:
            pass
        finally:
            for _ in range(3):
                with connected(server) as late:
                    assert ask(late, "server.info")["ok"]
            assert ask(early, "server.info")["ok"]
            for connection in idle:
                connection.close()


@pytest.mark.parametrize("bind", BINDS)
def test_shedding_shuts_the_newest_connections(bind: str) -> None:
    with serving(answer_empty, bind) as server, connected(server) as first:
        assert ask(first, "server.info")["ok"]  # it is there before the other one
        with connected(server, zmq.DEALER) as second:
            second.send(request("server.info"))
            second.recv()
            second.setsockopt(zmq.RECONNECT_IVL, -1)
            monitor = second.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            server.shed()
            assert monitor.poll(PATIENCE_MS)
            second.disable_monitor()
            monitor.close()
        assert ask(first, "server.info")["ok"]


@pytest.mark.parametrize("same", [True, False])
def test_connections_of_one_client_have_one_owner(same: bool) -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    with serving(held.put) as server:
        owners = []
        for i in range(2):
            with zmq.Context() as context, context.socket(zmq.DEALER) as client:
                client.linger = 0
                if same:
                    client.setsockopt(zmq.IDENTITY, b"t" * 16 + bytes([i] * 8))
                client.connect(server.endpoint)
                client.send(request("server.info"))
                owners.append(held.get(timeout=20).owner)
        assert (owners[0] == owners[1]) is same


def test_a_client_that_went_away_does_no_harm() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    with serving(held.put) as server:
        with connected(server, zmq.DEALER) as client:
            client.send(request("server.info"))
            orphan = held.get(timeout=20)
        orphan.reply(Empty())
        with connected(server) as client:
            client.send(request("server.info", id_=2))
            held.get(timeout=20).reply(Empty())
            assert msgpack.unpackb(client.recv())["id"] == 2


def test_raw_tcp_garbage_and_messages_cut_off_by_size_do_no_harm() -> None:
    with serving(answer_empty) as server:
        host, _, port = server.endpoint.removeprefix("tcp://").rpartition(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(os.urandom(4096))
        with connected(server, zmq.DEALER) as client:
            client.rcvtimeo = 300
            client.send(b"x" * (4 * MAX_BYTES))
            with pytest.raises(zmq.Again):
                client.recv()
        with connected(server) as client:
            assert ask(client, "server.info")["ok"]


@pytest.mark.parametrize("how", ["raises", "replies with what cannot be sent"])
def test_a_broken_handler_answers_internal_and_is_logged(how: str, caplog: pytest.LogCaptureFixture) -> None:
    def handle(request: Request) -> None:
        if how == "raises":
            raise RuntimeError("the secret is 42")
        request.reply(Removed(removed=[object()]))  # type: ignore[list-item]

    with serving(handle) as server, connected(server) as client:
        reply = ask(client, "objects.list")
    assert reply["error"]["code"] == "internal"
    assert "secret" not in reply["error"]["message"]
    assert "objects.list" in caplog.text


def test_stopping_answers_what_is_open_and_later_answers_go_nowhere() -> None:
    held: queue.SimpleQueue[Request] = queue.SimpleQueue()
    server = ControlServer(LOOPBACK, held.put, SERVED, "i1")
    server.start()
    with connected(server, zmq.DEALER) as client:
        for i in range(3):
            client.send(request("server.info", id_=i))
        requests = [held.get(timeout=20) for _ in range(3)]
        requests[1].reply(Empty())
        server.stop()
        replies = {reply["id"]: reply for reply in (msgpack.unpackb(client.recv()) for _ in range(3))}
        assert replies[1]["ok"]
        assert [replies[i]["error"]["code"] for i in (0, 2)] == ["unavailable"] * 2
        requests[0].reply(Empty())
        with pytest.raises(zmq.Again):
            client.recv(zmq.NOBLOCK)


def test_a_taken_port_is_refused_with_its_name() -> None:
    with serving(answer_empty) as server:
        second = ControlServer(server.endpoint, answer_empty, SERVED, "i2")
        with pytest.raises(
            ConfigError, match=r"control\.endpoint: tcp://127\.0\.0\.1:\d+ cannot be bound: Address already in use$"
        ):
            second.start()
        second.stop()


def test_ipc_sockets_have_mode_0660_and_a_live_one_is_not_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with serving(answer_empty, f"ipc://{path}") as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        second = ControlServer(f"ipc://{path}", answer_empty, SERVED, "i2")
        with pytest.raises(ConfigError, match="another daemon is serving it"):
            second.start()
        second.stop()
        with connected(server) as client:
            assert ask(client, "server.info")["instance"] == "i1"
    assert list(tmp_path.iterdir()) == []


def test_a_dead_daemon_s_ipc_socket_is_replaced_and_other_files_are_not(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    (tmp_path / "control.sock.lock").touch()
    with serving(answer_empty, f"ipc://{path}") as server, connected(server) as client:
        assert ask(client, "server.info")["ok"]
    path.write_text("precious")
    refused = ControlServer(f"ipc://{path}", answer_empty, SERVED, "i2")
    with pytest.raises(ConfigError, match="no socket"):
        refused.start()
    refused.stop()
    assert path.read_text() == "precious"


@pytest.mark.parametrize("removed", ["socket", "socket and lock", "folder"])
def test_an_ipc_socket_whose_file_is_removed_is_bound_again(tmp_path: Path, removed: str) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "control.sock"
    with serving(answer_empty, f"ipc://{path}") as server, connected(server) as before:
        assert ask(before, "server.info")["ok"]
        path.unlink()
        if removed != "socket":
            (folder / "control.sock.lock").unlink()
        if removed == "folder":
            folder.rmdir()
            folder.mkdir()
        wait_until(path.is_socket)
        with connected(server) as client:
            assert ask(client, "server.info")["ok"]
        assert ask(before, "server.info")["ok"]
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert list(folder.iterdir()) == []


def test_a_path_that_another_daemon_has_by_now_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = tmp_path / "run", tmp_path / "other"
    for folder in (first, second):
        folder.mkdir()
    with serving(answer_empty, f"ipc://{first}/control.sock"):
        (second / "control.sock.lock").touch()
        with socket.socket(socket.AF_UNIX) as others, (second / "control.sock.lock").open() as lock:
            others.bind(str(second / "control.sock"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            first.rename(tmp_path / "away")
            second.rename(first)
            wait_until(lambda: "another daemon is serving it" in caplog.text)
    assert (first / "control.sock.lock").exists()


@pytest.mark.parametrize("stands_there", ["link", "fifo"])
def test_the_lock_file_is_neither_a_link_nor_truncated(tmp_path: Path, stands_there: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    lock = tmp_path / "control.sock.lock"
    lock.symlink_to(precious) if stands_there == "link" else os.mkfifo(lock)
    refused = ControlServer(f"ipc://{tmp_path}/control.sock", answer_empty, SERVED, "i2")
    with pytest.raises(ConfigError, match=r"control\.endpoint"):
        refused.start()
    refused.stop()
    assert precious.read_text() == "kept"


@pytest.mark.parametrize("endpoint", ["ipc:///no/such/folder/x.sock", f"ipc:///tmp/{'x' * 200}"])
def test_endpoints_that_cannot_be_bound(endpoint: str) -> None:
    server = ControlServer(endpoint, answer_empty, SERVED, "i2")
    with pytest.raises(ConfigError, match=r"control\.endpoint: "):
        server.start()
    server.stop()


def test_a_mailbox_gives_all_at_once_and_swallows_what_comes_too_late() -> None:
    mailbox: Mailbox[int] = Mailbox()
    mailbox.put(1)
    mailbox.put(2)
    assert len(mailbox) == 2
    assert mailbox.take() == [1, 2]
    assert mailbox.take() == []
    mailbox.close()
    mailbox.put(3)
    assert len(mailbox) == 0
