"""A reader of a stream whose box does not know where its daemon publishes, and one who closed what it read from."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from helpers.fake_daemon import FakeDaemon, tracks
from helpers.fleets import START_S, NatsServer, nats_server
from helpers.places import tell
from helpers.waiting import wait_until
from tracker.client import AsyncClient, Client
from tracker.errors import Timeout

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

TOKEN = "1.1"
UNKNOWN = ""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def say(daemon: FakeDaemon, frame: int) -> None:
    """Once somebody listens."""
    wait_until(lambda: daemon.publisher.wanted("tracks/cam1/"))
    daemon.publisher.publish("tracks/cam1/", tracks(frame, owner=TOKEN))


def test_a_place_that_is_not_known_for_a_while_ends_no_subscription(server: NatsServer, daemon: FakeDaemon) -> None:
    tell(server, daemon, TOKEN)
    with Client(fleet=server.url) as client, client.tracks("cam1", timeout_s=START_S) as frames:
        tell(server, daemon, TOKEN, publish=UNKNOWN)
        directory = client._directory
        assert directory is not None
        wait_until(lambda: directory.known("cam1").publish == UNKNOWN)
        say(daemon, 7)
        assert next(frames).frame == 7


def test_a_place_that_is_not_known_yet_is_waited_for(server: NatsServer, daemon: FakeDaemon) -> None:
    tell(server, daemon, TOKEN, publish=UNKNOWN)
    with Client(fleet=server.url) as client, client.tracks("cam1", timeout_s=START_S) as frames:
        with (
            client.tracks("cam1", timeout_s=0.1) as hasty,
            pytest.raises(Timeout, match="no message of 'cam1' within"),
        ):
            next(hasty)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, frames)
            tell(server, daemon, TOKEN)
            say(daemon, 7)
            assert first.result(START_S).frame == 7


def test_a_place_that_is_not_known_yet_is_awaited(server: NatsServer, daemon: FakeDaemon) -> None:
    tell(server, daemon, TOKEN, publish=UNKNOWN)

    async def listen() -> int:
        async with AsyncClient(fleet=server.url) as client, client.tracks("cam1", timeout_s=START_S) as frames:
            first = asyncio.ensure_future(anext(frames))
            await asyncio.to_thread(tell, server, daemon, TOKEN)
            await asyncio.to_thread(say, daemon, 7)
            return (await first).frame

    assert asyncio.run(asyncio.wait_for(listen(), START_S)) == 7


def test_what_is_closed_ends(server: NatsServer, daemon: FakeDaemon) -> None:
    tell(server, daemon, TOKEN)

    async def listen() -> list[object]:
        async with AsyncClient(fleet=server.url) as client:
            heard, unheard = client.tracks("cam1"), client.tracks("cam1")
            async with heard:
                pass
            unheard.close()
            return [frame for frames in (heard, unheard) async for frame in frames]

    with Client(fleet=server.url) as client:
        with client.tracks("cam1") as frames:
            pass
        assert list(frames) == []
    assert asyncio.run(asyncio.wait_for(listen(), START_S)) == []
    wait_until(lambda: not daemon.publisher.wanted("tracks/cam1/"))
