"""A stream's objects go into a box's daemon and out of it: none is lost where that does not succeed at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from helpers.boxes import HoldingDaemon, asked, box_of, until
from helpers.fleets import nats_server
from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from tracker.client import AsyncClient, Message
from tracker.client.nats_options import NatsOptions
from tracker.daemon.operations import moves
from tracker.errors import TrackerError, TransferGone
from tracker.fleet import daemon_link, people
from tracker.fleet.box import Box
from tracker.fleet.buckets import Buckets
from tracker.fleet.bundles import Bundle, StoredObject, get_bundle, put_bundle
from tracker.fleet.daemon_link import TRIES, DaemonLink
from tracker.fleet.serving import Serving, Turns
from tracker.fleet.settings import NatsConfig, WantedStream
from tracker.protocol.fields import MAX_OBJECT, MAX_TRANSFERS
from tracker.protocol.messages import Event
from tracker.protocol.placement import SAVE, Token, key_of
from tracker.protocol.records import MovedObject

PATIENCE_S = 180.0
CHUNK_BYTES = 1000  # the object that is exported takes many
MANY = 3 * MAX_TRANSFERS
FIRST, SECOND = "file:///first.mp4", "file:///second.mp4"


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4")


@pytest.fixture
def talk(film: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """A daemon with an object of many chunks on stream cam, and stream new, which goes on with it."""
    monkeypatch.setattr(moves, "MAX_CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(daemon_link, "MAX_CHUNK_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(daemon_link, "ANSWER_S", PATIENCE_S)
    with serving(configuration(control={"allow_sources": [f"{film.parent}/*"]})) as talk:
        talk.ask("streams.add", stream="cam", url=str(film), loop=True)
        talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=10**6)
        wait_until(lambda: talk.ask("streams.list")["streams"][0]["frame"] is not None)
        talk.ask("objects.add", stream="cam", box=[110, 80, 130, 100], object=5)
        yield talk


def linked(talk: Talk, work: Callable[[DaemonLink], Awaitable[None]]) -> None:
    """What a box does by its link to that daemon."""

    async def run() -> None:
        link = DaemonLink(talk.daemon.control.endpoint, None, False)
        try:
            await asyncio.wait_for(work(link), PATIENCE_S)
        finally:
            link.close()

    asyncio.run(run())


def copies(stored: StoredObject, count: int) -> list[StoredObject]:
    return [structs.replace(stored, record=structs.replace(stored.record, object=i + 1)) for i in range(count)]


def ids_on(talk: Talk, stream: str) -> list[int]:
    return sorted(entry["object"] for entry in talk.ask("objects.list", stream=stream)["objects"])


def new_of(link: DaemonLink) -> Serving:
    return Serving(link, Turns(), "new", Token(1, 1))


class CrowdedClient:
    """Of a daemon that others begin as many transfers with as it keeps, whenever a first chunk of ours came."""

    def __init__(self, client: AsyncClient, other: AsyncClient, times: int) -> None:
        self.times = times  # that this happens
        self._client = client
        self._other = other

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def export_object(self, stream: str, object: int, token: str | None = None, offset: int = 0) -> Any:
        chunk = await self._client.export_object(stream, object, token, offset)
        if offset == 0 and self._happens():
            for _ in range(MAX_TRANSFERS):
                await self._other.export_object(stream, object)
        return chunk

    async def import_object(self, stream: str, record: MovedObject, size: int, data: bytes, offset: int) -> Any:
        reply = await self._client.import_object(stream, record, size, data, offset)
        if offset == 0 and self._happens():
            for copy in copies(StoredObject(record, data), MAX_TRANSFERS):
                others = structs.replace(copy.record, label="another's")
                await self._other.import_object(stream, others, size, data)
        return reply

    def _happens(self) -> bool:
        self.times -= 1
        return self.times >= 0


@asynccontextmanager
async def crowded(talk: Talk, link: DaemonLink, times: int) -> AsyncIterator[None]:
    client = link._client
    async with AsyncClient(talk.daemon.control.endpoint, timeout_s=PATIENCE_S) as other:
        link._client = cast(Any, CrowdedClient(client, other, times))
        try:
            yield
        finally:
            link._client = client


class TestObjectsOfManyChunks:
    def test_many_streams_are_stored_at_once(self, talk: Talk) -> None:
        async def work(link: DaemonLink) -> None:
            for (stored,) in await asyncio.gather(*(link.export("cam") for _ in range(MANY))):
                assert len(stored.memory) > 3 * CHUNK_BYTES

        linked(talk, work)

    def test_many_streams_are_taken_over_at_once(self, talk: Talk) -> None:
        async def work(link: DaemonLink) -> None:
            (stored,) = await link.export("cam")
            takes = (new_of(link).take(Bundle([one])) for one in copies(stored, MANY))
            assert await asyncio.gather(*takes) == [None] * MANY

        linked(talk, work)
        assert ids_on(talk, "new") == list(range(1, MANY + 1))

    def test_what_the_daemon_forgot_for_others_is_begun_again(self, talk: Talk) -> None:
        async def work(link: DaemonLink) -> None:
            async with crowded(talk, link, times=1):
                (stored,) = await link.export("cam")
            async with crowded(talk, link, times=TRIES - 1):
                assert await new_of(link).take(Bundle([stored])) is None

        linked(talk, work)
        assert ids_on(talk, "new") == [5]

    def test_where_it_is_always_forgotten_it_is_not_taken_for_an_object_of_another_model(self, talk: Talk) -> None:
        async def work(link: DaemonLink) -> None:
            (stored,) = await link.export("cam")
            async with crowded(talk, link, times=TRIES):
                with pytest.raises(TransferGone):
                    await new_of(link).take(Bundle([stored]))
            async with crowded(talk, link, times=TRIES):
                with pytest.raises(TransferGone):
                    await link.export("cam")

        linked(talk, work)

    def test_one_of_another_model_is_left_out(self, talk: Talk) -> None:
        async def work(link: DaemonLink) -> None:
            (stored,) = await link.export("cam")
            other = structs.replace(stored, memory=stored.memory.replace(b"blobs", b"boxes"))
            why_not = await new_of(link).take(Bundle([other, *copies(stored, 1)]))
            assert why_not is not None
            assert "the memory is of boxes" in why_not

        linked(talk, work)
        assert ids_on(talk, "new") == [1]


Work = Callable[[HoldingDaemon, Box, Buckets], Awaitable[None]]


def with_a_stream(tmp_path: Path, work: Work) -> None:
    """On a box with such a daemon."""

    async def run(url: str) -> None:
        daemon = HoldingDaemon()
        async with box_of(NatsConfig(servers=(url,)), daemon) as box, asked(NatsOptions([url])) as buckets:
            await people.apply(buckets, {"cam": WantedStream(url=FIRST)}, prune=False)

            async def is_served() -> bool:
                return [lease._tenure.state for lease in box.leases.values()] == ["serving"]

            await until(is_served)
            await work(daemon, box, buckets)

    with nats_server(tmp_path) as server:
        asyncio.run(asyncio.wait_for(run(server.url), PATIENCE_S))


async def is_durable(buckets: Buckets, box: Box) -> bool:
    """As a client asks."""
    subject = f"{SAVE}.cam.{key_of(str(box.leases['cam'].token))}"
    await buckets.nats.request(subject, b"", timeout=PATIENCE_S)
    return True


async def kept(buckets: Buckets, box: Box) -> Bundle:
    return await get_bundle(buckets.js, "cam", [str(box.leases["cam"].token)])


def ids_in(bundle: Bundle) -> list[int]:
    return [one.record.object for one in bundle.objects]


@pytest.mark.nats
@pytest.mark.timeout(240)
class TestWhatIsStored:
    def test_is_not_replaced_by_what_a_silent_daemon_has_taken_over_so_far(self, tmp_path: Path) -> None:
        """Its settings change, and are tried again with each of its silences."""

        async def work(daemon: HoldingDaemon, box: Box, buckets: Buckets) -> None:
            daemon.hold(1, 2, 3)
            assert await is_durable(buckets, box)
            daemon.silent_times = 2
            await people.apply(buckets, {"cam": WantedStream(url=SECOND)}, prune=False)

            async def goes_on() -> bool:
                return daemon.silent_times == 0 and await daemon.urls() == [SECOND] and len(daemon.objects) == 3

            await until(goes_on)
            assert await is_durable(buckets, box)
            assert ids_in(await kept(buckets, box)) == [1, 2, 3]

        with_a_stream(tmp_path, work)

    def test_is_gone_on_with_where_settings_change_while_the_daemon_has_lost_the_stream(
        self, tmp_path: Path
    ) -> None:
        async def work(daemon: HoldingDaemon, box: Box, buckets: Buckets) -> None:
            daemon.hold(1, 2, 3)
            assert await is_durable(buckets, box)
            await daemon.remove_stream("cam")
            await people.apply(buckets, {"cam": WantedStream(url=SECOND)}, prune=False)

            async def goes_on() -> bool:
                return await daemon.urls() == [SECOND] and sorted(daemon.objects) == [1, 2, 3]

            await until(goes_on)

        with_a_stream(tmp_path, work)

    def test_ids_that_a_daemon_gave_just_before_it_was_restarted_are_not_given_again(self, tmp_path: Path) -> None:
        """Its box had not heard of them."""

        async def work(daemon: HoldingDaemon, box: Box, buckets: Buckets) -> None:
            daemon.hold(1)
            assert await is_durable(buckets, box)
            daemon.hold(2)
            await daemon.remove_stream("cam")

            async def goes_on() -> bool:
                return list(daemon.objects) == [1]

            await until(goes_on)
            assert daemon.first_object > 2

        with_a_stream(tmp_path, work)

    @pytest.mark.parametrize("is_there", [True, False], ids=["an object", "one that is gone"])
    def test_can_be_read_after_an_object_with_the_greatest_id(self, is_there: bool, tmp_path: Path) -> None:
        async def work(daemon: HoldingDaemon, box: Box, buckets: Buckets) -> None:
            ids = [1, 2, MAX_OBJECT] if is_there else [1, 2]
            daemon.hold(*ids)
            added = Event(
                event="object_added",
                stream="cam",
                frame=5,
                epoch=0,
                time=1.0,
                object=MAX_OBJECT,
                owner=str(box.leases["cam"].token),
            )
            daemon.on_message(Message("events/cam/", added))
            assert await is_durable(buckets, box)
            bundle = await kept(buckets, box)
            assert (ids_in(bundle), bundle.next_object) == (ids, MAX_OBJECT)
            await daemon.remove_stream("cam")

            async def goes_on() -> bool:
                return list(daemon.objects) == ids

            await until(goes_on)

        with_a_stream(tmp_path, work)

    def test_is_not_replaced_by_what_nobody_could_read(self, tmp_path: Path) -> None:
        async def work(daemon: HoldingDaemon, box: Box, buckets: Buckets) -> None:
            daemon.hold(1)
            assert await is_durable(buckets, box)
            with pytest.raises(TrackerError, match="next_object"):
                await put_bundle(buckets.bundles, "cam", box.leases["cam"].token, Bundle([], MAX_OBJECT + 1))
            assert ids_in(await kept(buckets, box)) == [1]

        with_a_stream(tmp_path, work)
