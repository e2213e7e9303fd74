"""Connections of a bound socket, by descriptors: what is shut is shut, and what is not is not forgotten."""

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from helpers.binds import BINDS, IPV6, address_of, reached
from helpers.waiting import wait_until
from tracker.sockets.bound_address import BoundAddress, opened
from tracker.sockets.connections import Connections, descriptor_of


@contextlib.contextmanager
def known_of(bind: str = "tcp://127.0.0.1:*", limit: int = 10) -> Iterator[tuple["zmq.Socket[bytes]", Connections]]:
    """A bound socket and its connections, without a thread."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as server:
        server.linger = 0
        server.ipv6 = "[" in bind
        server.bind(bind)
        known = Connections(server, limit)
        try:
            yield server, known
        finally:
            known.close()


def endpoint_of(server: "zmq.Socket[bytes]") -> str:
    return server.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0")


def come(known: Connections, count: int) -> None:
    wait_until(lambda: (known.update(), len(known) == count)[1])


def descriptors(known: Connections) -> list[int]:
    return [fd for fd in range(1024) if fd in known]


def read_to_its_end(peer: socket.socket) -> None:
    """Raises TimeoutError where it is still open."""
    peer.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        while peer.recv(64):
            pass


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """What is open goes on; nothing more can be opened by this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("bind", BINDS)
def test_a_connection_is_known_by_where_it_is_bound_and_other_sockets_are_not(bind: str) -> None:
    with known_of(bind) as (server, known), known_of(bind) as (_, others):
        address = BoundAddress(endpoint_of(server))
        with socket.create_connection(address_of(endpoint_of(server))) as peer:
            come(known, 1)
            [fd] = descriptors(known)
            with opened(fd) as ours, opened(peer.fileno()) as other:
                assert address.accepted(ours)
                assert not address.accepted(other)
            assert not others.shut(fd, "it is not theirs")
            assert known.shut(fd, "it is ours")
            read_to_its_end(peer)


@IPV6
def test_an_ipv4_connection_of_an_ipv6_wildcard_is_shut_too() -> None:
    with known_of("tcp://[::]:*") as (server, known):
        port = address_of(endpoint_of(server))[1]
        with socket.create_connection(("127.0.0.1", port)) as old, socket.create_connection(("::1", port)) as new:
            come(known, 2)
            assert len(known.shed()) == 1
            assert len(known.shed()) == 1
            read_to_its_end(old)
            read_to_its_end(new)


def test_a_link_s_own_address_is_told_by_its_scope() -> None:
    """fe80::1 may be on every link. None is bound: not every machine has one."""
    loopback = socket.if_nametoindex("lo")
    address = BoundAddress("tcp://[fe80::1%lo]:5570")
    assert address._name == ("fe80::1", 5570, loopback)
    assert str(address) == "tcp://[fe80::1%lo]:5570"


@pytest.mark.parametrize("bind", BINDS)
def test_nobody_else_can_listen_at_a_port_of_which_every_address_is_bound(bind: str) -> None:
    """What tells connections of a wildcard: their port."""
    with known_of(bind) as (server, _):
        host, port = address_of(endpoint_of(server))
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with pytest.raises(OSError, match="in use"), socket.create_server((host, port), family=family):
            pass


def test_who_cannot_be_shut_counts_until_it_is() -> None:
    with known_of(limit=1) as (server, known), contextlib.ExitStack() as peers:
        address = address_of(endpoint_of(server))
        first = peers.enter_context(socket.create_connection(address))
        come(known, 1)
        [fd] = descriptors(known)
        with no_descriptor_left():
            assert not known.shut(fd, "it could not be looked at")
            assert known.shed() == []
        assert fd in known
        peers.enter_context(socket.create_connection(address))
        assert known.shut(fd, "it can be looked at again")
        assert fd not in known
        read_to_its_end(first)


def test_a_look_at_what_is_no_socket_leaves_no_descriptor_open() -> None:
    reading, writing = os.pipe()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="socket"), opened(reading):
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    os.close(reading)
    os.close(writing)


def test_what_a_shut_connection_sent_is_not_looked_at_and_its_end_is_told() -> None:
    """Else what it asked for waits for ever, and counts against whoever has its descriptor next."""
    with known_of() as (server, known), zmq.Context() as context:
        with context.socket(zmq.DEALER) as client:
            client.linger = 0
            client.setsockopt(zmq.RECONNECT_IVL, -1)
            client.connect(reached(endpoint_of(server)))
            for _ in range(2):
                client.send(b"a request")
            assert server.poll(20_000)
            first = server.recv_multipart(copy=False)
            fd = descriptor_of(first[-1])
            come(known, 1)
            assert known.may_send(fd, first[0].bytes, 9, 2)
            assert known.shut(fd, "in between")
            assert server.poll(20_000)
            second = server.recv_multipart(copy=False)
            assert descriptor_of(second[-1]) == fd
            assert not known.may_send(fd, second[0].bytes, 9, 2)
        told: list[int] = []

        def is_told() -> bool:
            told.extend(known.update())
            return bool(told)

        wait_until(is_told)
        assert told == [fd]
