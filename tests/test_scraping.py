"""Figures over HTTP, at whatever address."""

import socket
import urllib.request
from collections.abc import Iterable

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
