"""A box that is silent, as one that was killed, is left for the stream's next one.

What it may have done is not asked again.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_daemon import FakeDaemon
from helpers.fleets import START_S, NatsServer, nats_server
from helpers.places import tell
from tracker.client import AsyncClient, Client
from tracker.errors import Timeout
from tracker.sockets.request import Request

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

TIMEOUT_S = 1.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
def silent(server: NatsServer) -> Iterator[FakeDaemon]:
    """It has the stream, and answers nothing."""
    daemon = FakeDaemon()
    daemon.answers = dict.fromkeys(daemon.answers)
    tell(server, daemon, "1.1")
    yield daemon
    daemon.stop()


@pytest.fixture
def next_one() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def waiting(url: str, name: str, *args: Any) -> Any:
    with Client(fleet=url, timeout_s=TIMEOUT_S) as client:
        return getattr(client, name)(*args)


def awaiting(url: str, name: str, *args: Any) -> Any:
    async def ask() -> Any:
        async with AsyncClient(fleet=url, timeout_s=TIMEOUT_S) as client:
            return await getattr(client, name)(*args)

    return asyncio.run(ask())


CLIENTS = [waiting, awaiting]


def asked_while_it_moves(
    server: NatsServer, silent: FakeDaemon, next_one: FakeDaemon, ask: Callable[[str], Any]
) -> Any:
    """The box is asked, as far as the client knows has the stream; then another one has it."""
    is_asked = threading.Event()

    def note(_: Request) -> None:
        is_asked.set()

    silent.on_request = note
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, server.url)
        assert is_asked.wait(START_S)
        tell(server, next_one, "1.2")
        return asking.result(START_S)


@pytest.mark.parametrize("client", CLIENTS)
def test_reading_goes_on_at_the_next_box(
    server: NatsServer, silent: FakeDaemon, next_one: FakeDaemon, client: Callable[..., Any]
) -> None:
    found = asked_while_it_moves(server, silent, next_one, lambda url: client(url, "objects", "cam1"))
    assert found == next_one.answers["objects.list"]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_may_have_been_done_is_not_asked_again(
    server: NatsServer, silent: FakeDaemon, next_one: FakeDaemon, client: Callable[..., Any]
) -> None:
    with pytest.raises(Timeout):
        asked_while_it_moves(server, silent, next_one, lambda url: client(url, "remove", "cam1", 7))
    assert next_one.asked.empty()


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("client", CLIENTS)
def test_a_silent_box_whose_stream_stays_there_is_told_of(
    server: NatsServer, client: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.client.whereabouts.MOVING_S", 0.1)
    with pytest.raises(Timeout, match="no reply from"):
        client(server.url, "objects", "cam1")
