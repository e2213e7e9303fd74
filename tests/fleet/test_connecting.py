"""Who does not get to the fleet, or gives up on the way there, is told why, and leaves no connection."""

import asyncio
from pathlib import Path

import pytest

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import box_of, until
from helpers.fleets import NatsServer, nats_server
from tracker.client import Client
from tracker.client.nats_connection import NO_JETSTREAM, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.client.tasks import ended
from tracker.client.whereabouts import Whereabouts
from tracker.errors import ConfigError
from tracker.fleet.settings import NatsConfig

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

PATIENCE_S = 60.0
RECONNECTS = 5
USERS = """
accounts {
  without: { users: [{user: plain, password: word}] }
  denied: { jetstream: enabled, users: [{user: denied, password: word, permissions: {publish: {deny: ">"}}}] }
}
"""

# Whether NATS has JetStream, who asks, and what is said.
CASES = {
    "JetStream is off": (False, "", NO_JETSTREAM),
    "the account has none": (True, "plain:word@", NO_JETSTREAM),
    "the user may not ask it": (True, "denied:word@", NO_JETSTREAM),
    "no box was ever there": (True, "", "start a box first"),
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "nats.conf"
    path.write_text(USERS)
    return path


@pytest.mark.parametrize("case", CASES)
def test_a_client_is_told_that_there_is_no_jetstream_and_leaves_no_connection(
    case: str, tmp_path: Path, settings: Path
) -> None:
    has_jetstream, user, says = CASES[case]
    arguments = ["-c", str(settings)] if user else []

    async def work(options: NatsOptions) -> None:
        there = Whereabouts()
        with pytest.raises(ConfigError) as refused:
            await there.connect(options)
        assert says in refused.value.message
        assert "word" not in refused.value.message
        assert there._nats.is_closed

    with nats_server(tmp_path, arguments, has_jetstream=has_jetstream) as server:
        url = server.url.replace("//", f"//{user}")
        asyncio.run(asyncio.wait_for(work(NatsOptions([url])), PATIENCE_S))
        with pytest.raises(ConfigError):
            Client(fleet=url)


def test_who_gives_up_while_jetstream_does_not_answer_leaves_no_connection(tmp_path: Path, settings: Path) -> None:
    there = Whereabouts()

    async def is_asking() -> bool:
        return hasattr(there, "_nats")

    async def work(options: NatsOptions) -> None:
        connecting = asyncio.ensure_future(there.connect(options))
        await until(is_asking)
        await ended([connecting])
        assert (connecting.cancelled(), there._nats.is_closed) == (True, True)

    with nats_server(tmp_path, ["-c", str(settings)]) as server:
        options = NatsOptions([server.url.replace("//", "//denied:word@")])
        asyncio.run(asyncio.wait_for(work(options), PATIENCE_S))


@pytest.mark.parametrize("wait", [False, True])
def test_who_gives_up_while_a_server_says_nothing_tries_no_more(wait: bool) -> None:
    async def work() -> None:
        opened, closed = asyncio.Event(), asyncio.Event()

        async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            opened.set()
            await reader.read()
            writer.close()
            closed.set()

        async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            connecting = asyncio.ensure_future(
                connect_nats(NatsOptions([f"nats://127.0.0.1:{port}"]), "test", wait=wait)
            )
            await opened.wait()
            connecting.cancel()
            await asyncio.wait([connecting])
            await closed.wait()
            names = [str(task.get_coro()) for task in asyncio.all_tasks()]
            assert (connecting.cancelled(), [name for name in names if "Client.connect" in name]) == (True, [])

    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def test_a_box_asks_once_however_often_it_reaches_a_nats_whose_jetstream_does_not_answer(tmp_path: Path) -> None:
    """As where its disk is full: the server drops its connections then, all night long."""

    async def work(server: NatsServer) -> None:
        async with box_of(NatsConfig(servers=(server.url,)), SimulatedDaemon()) as box:

            async def is_in_the_fleet() -> bool:
                return box.connected

            await until(is_in_the_fleet)
            before = len(box._tasks)
            server.has_jetstream = False
            for times in range(1, RECONNECTS):
                server.stop()
                server.start()

                async def is_back(times: int = times) -> bool:
                    return box._nats.stats["reconnects"] == times and box._nats.is_connected

                await until(is_back)

            async def asks_once() -> bool:
                return len(box._tasks) <= before + 1

            await until(asks_once)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))
