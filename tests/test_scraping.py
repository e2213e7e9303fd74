"""Figures over HTTP, at whatever address."""

import socket
import urllib.request
from collections.abc import Iterable
from contextlib import ExitStack, suppress

import pytest

from helpers.binds import IPV6
from tracker.config import parse
from tracker.scraping import Environ, Scraped, StartResponse


def hello(_: Environ, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", pytest.param("[::1]", marks=IPV6)])
def test_it_answers_at_an_address_of_either_family(host: str) -> None:
    endpoint = parse(f"metrics: {{endpoint: '{host}:0'}}").metrics.endpoint
    assert endpoint is not None
    server = Scraped(endpoint, hello)
    server.start()
    try:
        with urllib.request.urlopen(f"http://{host}:{server.port}/", timeout=30) as reply:
            assert reply.read() == b"hello"
    finally:
        server.stop()


def test_a_start_asks_no_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cameras' networks have none, and the daemon would wait for it before it serves."""

    def never(name: str = "") -> str:
        raise AssertionError(f"the name of {name} was looked up")

    monkeypatch.setattr(socket, "getfqdn", never)
    server = Scraped("0.0.0.0:0", hello)
    server.start()
    server.stop()


def test_connections_that_say_nothing_hold_up_nobody() -> None:
    server = Scraped("127.0.0.1:0", hello)
    server.start()
    try:
        silent = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(8)]
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=30) as reply:
            assert reply.read() == b"hello"
        for connection in silent:
            connection.setblocking(False)
            with connection, pytest.raises(BlockingIOError):  # it was not even looked at, let alone hung up on
                connection.recv(1)
    finally:
        server.stop()


@pytest.mark.parametrize("half", [b"G", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_connections_that_send_half_a_request_hold_up_nobody(half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.scraping._Handler.timeout", 3600.0)
    server = Scraped("127.0.0.1:0", hello)
    server.start()
    try:
        with ExitStack() as stack:
            for _ in range(8):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30)).sendall(half)
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=10) as reply:
                assert reply.read() == b"hello"
    finally:
        server.stop()


def test_of_too_many_half_requests_the_oldest_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.scraping._Handler.timeout", 3600.0)
    monkeypatch.setattr("tracker.scraping.MAX_ARRIVING", 2)
    server = Scraped("127.0.0.1:0", hello)
    server.start()
    try:
        with ExitStack() as stack:
            halves = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 30)) for _ in range(3)
            ]
            for connection in halves:
                connection.sendall(b"G")
            with suppress(ConnectionError):
                assert halves[0].recv(1) == b""
            halves[2].sendall(b"ET / HTTP/1.0\r\n\r\n")
            assert halves[2].recv(8) == b"HTTP/1.0"
    finally:
        server.stop()
