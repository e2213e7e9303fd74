"""What a box tells Prometheus, on a port that may be open to everybody."""

import socket
import threading
import urllib.request
from contextlib import ExitStack, suppress

import pytest

from helpers.fleets import free_port
from tracker.fleet.metrics import Figures, serving

pytestmark = pytest.mark.timeout(60)

MANY = 500  # bytes, each of which takes a twentieth of the time for all


def test_who_begins_a_request_and_says_no_more_costs_no_thread(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each is hung up on, one after the other, and figures are told then."""
    monkeypatch.setattr("tracker.scraping._Handler.timeout", 0.05)
    before, port = threading.active_count(), free_port()
    with serving(f"127.0.0.1:{port}", Figures(lambda: {"streams": 3.0})), ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 30)) for _ in range(5)]
        for connection in silent:
            connection.sendall(b"G")
        for connection in silent:
            assert connection.recv(1) == b""
            assert threading.active_count() == before + 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as reply:
            assert "tracker_fleet_streams 3.0" in reply.read().decode().splitlines()
    assert capfd.readouterr().err == ""


def test_who_sends_a_request_byte_by_byte_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracker.scraping._Handler.timeout", 0.2)
    port = free_port()
    with (
        serving(f"127.0.0.1:{port}", Figures(dict)),
        socket.create_connection(("127.0.0.1", port)) as slow,
        suppress(ConnectionError),
    ):
        slow.settimeout(0.01)
        for _ in range(MANY):
            slow.sendall(b"G")
            with suppress(TimeoutError):
                assert slow.recv(1) == b""
                return
        pytest.fail("it is still waited for")
