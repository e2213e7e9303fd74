"""NATS as it is run where it matters: users with credentials, and three servers of which one may be lost."""

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.certificates import authority
from helpers.fleets import TRACKERD, NatsServer, held_port, nats_server
from helpers.nats_accounts import Account, account
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.client.whereabouts import Whereabouts
from tracker.errors import BadRequest, ConfigError, UnknownStream
from tracker.fleet import moves, people
from tracker.fleet.buckets import Buckets
from tracker.fleet.records import QUEUE
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.placement import Token, Where

pytestmark = [pytest.mark.nats, pytest.mark.timeout(300)]

PATIENCE_S = 240.0
BRIEFLY_S = 0.5
EXPIRE_S = 3
WANTED = WantedStream(url="file:///film.mp4")


async def are_live(buckets: Buckets, *streams: str) -> bool:
    state = await people.state(buckets)
    return {placed.stream for placed in state.streams if placed.state == "live"} >= set(streams)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Account:
    return account(tmp_path_factory.mktemp("account"))


@pytest.fixture(scope="module")
def server(ours: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with nats_server(tmp_path_factory.mktemp("nats"), ["-c", str(ours.configuration)]) as server:
        yield server


def client_permissions() -> dict[str, list[str]]:
    """As the manual's table of a fleet's users says."""
    manual = (Path(__file__).parents[2] / "docs/security.md").read_text()
    (row,) = [line for line in manual.splitlines() if line.startswith("| `Client(fleet=…)`")]
    publish, subscribe = row.split("publish ")[1].split("; subscribe ")
    return {kind: re.findall(r"`(\S+)`", text) for kind, text in (("publish", publish), ("subscribe", subscribe))}


async def _is_gone(whereabouts: Whereabouts, stream: str) -> bool:
    try:
        await whereabouts.where(stream)
    except UnknownStream:
        return True
    return False


class TestCredentials:
    def test_let_a_box_and_people_in(self, server: NatsServer, ours: Account, tmp_path: Path) -> None:
        box, person = (str(ours.write_credentials(tmp_path / name)) for name in ("box.creds", "person.creds"))

        async def listed() -> str:
            nats = NatsConfig(servers=(server.url,), credentials=box)
            async with box_of(nats, SimulatedDaemon()), asked(NatsOptions([server.url], person)) as buckets:
                await people.apply(buckets, {"cam": WANTED}, prune=False)
                await until(lambda: are_live(buckets, "cam"))
            command = [*TRACKERD, "fleet", "ls", "--nats", server.url, "--creds", person]
            return await asyncio.to_thread(subprocess.check_output, command, text=True)

        assert "cam" in asyncio.run(asyncio.wait_for(listed(), PATIENCE_S))

    def test_that_expired_are_read_anew(self, server: NatsServer, ours: Account, tmp_path: Path) -> None:
        path = ours.write_credentials(tmp_path / "box.creds", lasts_s=EXPIRE_S)

        async def expires() -> None:
            async with box_of(NatsConfig(servers=(server.url,), credentials=str(path)), SimulatedDaemon()) as box:
                was_in = False
                while not was_in or box.connected:
                    was_in |= box.connected
                    if not was_in:  # a busy machine was slower than they last
                        ours.write_credentials(path, lasts_s=EXPIRE_S)
                    await asyncio.sleep(BRIEFLY_S)
                ours.write_credentials(path)
                while not box.connected:
                    await asyncio.sleep(BRIEFLY_S)

        asyncio.run(asyncio.wait_for(expires(), PATIENCE_S))

    def test_of_a_client_with_the_permissions_of_the_manual(
        self, server: NatsServer, ours: Account, tmp_path: Path
    ) -> None:
        permissions = client_permissions()
        box = str(ours.write_credentials(tmp_path / "box.creds"))
        client = NatsOptions([server.url], str(ours.write_credentials(tmp_path / "client.creds", permissions)))

        async def found() -> Where:
            nats = NatsConfig(servers=(server.url,), credentials=box)
            async with box_of(nats, SimulatedDaemon()), asked(NatsOptions([server.url], box)) as buckets:
                await people.apply(buckets, {"gate": WANTED}, prune=False)
                await until(lambda: are_live(buckets, "gate"))
                whereabouts = Whereabouts()
                await whereabouts.connect(client)
                try:
                    where = await whereabouts.where("gate")
                    assert await whereabouts.save(where)
                    await people.remove(buckets, ["gate"])
                    await until(lambda: _is_gone(whereabouts, "gate"))
                finally:
                    await whereabouts.close()
                with pytest.raises(TimeoutError):  # no more than that
                    async with asyncio.timeout(2), asked(client):
                        pass
                return where

        assert asyncio.run(asyncio.wait_for(found(), PATIENCE_S)).box == "north"

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ("none", "Authorization Violation"),
            ("of another operator", "Authorization Violation"),
            ("no file", "missing.creds cannot be read: No such file or directory"),
            ("no credentials", "empty.creds is no credentials file as nsc makes it"),
            ("a damaged seed", "damaged.creds is no credentials file as nsc makes it"),
        ],
    )
    def test_that_are_wrong_are_refused_at_once(
        self, server: NatsServer, ours: Account, tmp_path: Path, given: str, says: str
    ) -> None:
        strange, missing, empty, damaged = (
            tmp_path / f"{name}.creds" for name in ("strange", "missing", "empty", "damaged")
        )
        account(tmp_path).write_credentials(strange)
        empty.touch()
        damaged.write_text(ours.write_credentials(damaged).read_text().replace("\nSU", "\nXX"))
        files = {
            "none": None,
            "of another operator": strange,
            "no file": missing,
            "no credentials": empty,
            "a damaged seed": damaged,
        }
        credentials = files[given]
        options = NatsOptions([server.url], None if credentials is None else str(credentials))
        with pytest.raises(ConfigError, match=says):
            asyncio.run(connect_nats(options, "test"))


@pytest.mark.parametrize(
    ("servers", "files", "says"),
    [
        ("http://127.0.0.1", {}, "nats: 'http://127.0.0.1' is no server: write nats://HOST:4222"),
        ("", {}, "nats: '' is no server"),
        ("TLS://host", {}, "nats: 'TLS://host' is no server"),
        ("nats://a,two words", {}, "nats: 'two words' is no server"),
        ("nats://host:99999", {}, "nats: 'nats://host:99999' is no server"),
        ("nats://user:secret@host:99999", {}, "nats: 'nats://…@host:99999' is no server"),
        ("nats://host", {"certificate_key": "key.pem"}, "a certificate and its key belong together"),
        ("nats://host", {"ca": "missing.pem"}, "nats: missing.pem cannot be read: No such file"),
        ("nats://host", {"ca": __file__}, "test_servers.py holds no certificate in PEM"),
    ],
)
def test_options_that_cannot_be_right_are_refused(servers: str, files: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        asyncio.run(connect_nats(NatsOptions.of(servers, **files), "test"))
    assert says in refused.value.message


@pytest.mark.parametrize("by", ["its URL", "a CA"])
def test_a_plain_server_is_told_nothing_where_tls_is_wanted(tmp_path: Path, by: str) -> None:
    with nats_server(tmp_path) as plain:
        tls_url = plain.url.replace("nats://", "tls://")
        ca = str(authority(tmp_path).ca.certificate)
        options = NatsOptions([tls_url]) if by == "its URL" else NatsOptions([plain.url], ca=ca)
        with pytest.raises(ConfigError, match="the server does not speak TLS"):
            asyncio.run(connect_nats(options, "test"))


def test_names_that_stand_for_more_than_one_are_refused(tmp_path: Path) -> None:
    rule = "must be 1 to 64 of a-z"
    refusals: list[tuple[Callable[[Buckets], Awaitable[object]], str]] = [
        (lambda buckets: people.remove(buckets, ["*"]), f"stream: {rule}"),
        (lambda buckets: moves.move(buckets, "a b", None), f"stream: {rule}"),
        (lambda buckets: moves.undo_drain(buckets, "*"), f"box: {rule}"),
        (lambda buckets: moves.undo_drain(buckets, "north"), "box: 'north' is not drained"),
    ]

    async def work(url: str) -> None:
        async with box_of(NatsConfig(servers=(url,)), SimulatedDaemon()), asked(NatsOptions([url])) as buckets:
            for question, says in refusals:
                with pytest.raises(BadRequest, match=re.escape(says)):
                    await question(buckets)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server.url), PATIENCE_S))


@contextmanager
def three_servers(folder: Path) -> Iterator[list[NatsServer]]:
    with ExitStack() as stack:
        routes = [f"nats://127.0.0.1:{stack.enter_context(held_port())}" for _ in range(3)]
        servers = []
        for number, route in enumerate(routes):
            arguments = ["--name", f"nats{number}", "--cluster_name", "of-this-test", "--cluster", route]
            port = stack.enter_context(held_port())
            server = NatsServer(folder / f"nats{number}", port, [*arguments, "--routes", ",".join(routes)])
            stack.callback(server.stop)
            server.start()
            servers.append(server)
        yield servers


async def has_leader(js: JetStreamContext, name: str, but: str = "") -> bool:
    """A stream, by the word of a server that is asked briefly: one without a leader does not answer."""
    info = await js.stream_info(name)
    return info.cluster is not None and info.cluster.leader not in (None, "", but)


async def until_agreed(urls: Sequence[str]) -> None:
    """The servers have found each other, and make streams."""
    connection = await connect_nats(NatsOptions(urls), "test")
    js = connection.jetstream(timeout=BRIEFLY_S)
    try:
        while True:
            with suppress(NatsError, TimeoutError):
                await js.add_stream(name="of-this-test", subjects=["of-this-test"], num_replicas=3)
                return
    finally:
        await close_nats(connection)


def test_nats_is_lost_while_a_box_opens_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the box is in the fleet once it is back."""
    asking = asyncio.Event()
    back = asyncio.Event()

    async def after_a_break(ask: Callable[[], Awaitable[Buckets]]) -> Buckets:
        asking.set()
        await back.wait()
        return await ask()

    async def work(server: NatsServer) -> None:
        monkeypatch.setattr("tracker.fleet.box.answered", after_a_break)
        async with box_of(NatsConfig(servers=(server.url,)), SimulatedDaemon()) as box:

            async def is_connected(connected: bool) -> bool:
                return box._nats.is_connected == connected

            async def is_listed() -> bool:
                return [record.box for record in await people.boxes(buckets)] == [box.name]

            await asking.wait()
            await asyncio.to_thread(server.stop)
            await until(lambda: is_connected(False))
            await asyncio.to_thread(server.start)
            await until(lambda: is_connected(True))
            back.set()
            async with asked(NatsOptions([server.url])) as buckets:
                await until(is_listed)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def test_a_box_ends_where_its_client_library_swallows_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `wait_for` of Python 3.11 does where an answer comes at that very moment."""
    opening = asyncio.Event()

    async def swallows(ask: Callable[[], Awaitable[Buckets]]) -> Buckets:
        buckets = await ask()
        opening.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return buckets

    async def work(server: NatsServer) -> None:
        monkeypatch.setattr("tracker.fleet.box.answered", swallows)
        async with box_of(NatsConfig(servers=(server.url,)), SimulatedDaemon()):
            await opening.wait()

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(work(server), PATIENCE_S))


def test_one_of_three_replicated_servers_is_lost(tmp_path: Path) -> None:
    """What is wanted and what is owned is kept, streams go on, and new ones are placed."""

    async def work(servers: list[NatsServer]) -> None:
        urls = tuple(server.url for server in servers)
        await until_agreed(urls)
        nats = NatsConfig(servers=urls, replicas=3)
        daemon = SimulatedDaemon()
        async with box_of(nats, daemon), asked(NatsOptions(urls)) as buckets:
            await people.apply(buckets, {"first": WANTED}, prune=False)
            await until(lambda: are_live(buckets, "first"))
            (before,) = (await people.state(buckets)).streams
            info = await buckets.js.stream_info("KV_tracker-wanted")
            assert info.cluster is not None
            leader = next(server for server in servers if server.folder.name == info.cluster.leader)
            leader.stop()
            brief = buckets.nats.jetstream(timeout=BRIEFLY_S)
            for name in ("KV_tracker-wanted", "KV_tracker-needs", "KV_tracker-claims", QUEUE):
                await until(partial(has_leader, brief, name, leader.folder.name))

            async def is_wanted() -> bool:
                await people.apply(buckets, {"first": WANTED, "second": WANTED}, prune=False)
                return True

            await until(is_wanted)
            await until(lambda: are_live(buckets, "first", "second"))

            async def are_served() -> bool:
                return {record.stream for record in await daemon.streams()} == {"first", "second"}

            # Where the others took longer than ack_wait to agree, JetStream hands it out again, to the same box.
            await until(are_served)
            first = next(s for s in (await people.state(buckets)).streams if s.stream == "first")
            assert first.owner is not None
            assert before.owner is not None
            assert Token.parse(first.owner).sequence == Token.parse(before.owner).sequence

    with three_servers(tmp_path) as servers:
        asyncio.run(asyncio.wait_for(work(servers), PATIENCE_S))
