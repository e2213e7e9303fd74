"""What is read of NATS ends, also where the server goes meanwhile."""

import asyncio
import base64
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats.errors import Error as NatsError
from nats.js.api import RawStreamMsg
from nats.js.errors import ObjectNotFoundError

from helpers.boxes import connected_to
from helpers.fleets import nats_server
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import READ_S, BadObject, all_entries, answered, stored_data
from tracker.fleet.records import BUNDLES, WANTED

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

ENTRIES = {f"key{number}": b"value" for number in range(300)}
CONTENT = bytes(1 << 20)


def test_a_read_ends_where_the_server_is_gone(tmp_path: Path) -> None:
    async def read(buckets: Buckets, has_read: asyncio.Event) -> None:
        """Raises what a read that was cut off raises."""
        while True:
            assert await all_entries(buckets.js, WANTED) == ENTRIES
            assert await stored_data(buckets.js, BUNDLES, "content") == CONTENT
            has_read.set()

    async def work() -> None:
        with nats_server(tmp_path) as server:
            connection = await connect_nats(NatsOptions([server.url]), "test")
            try:
                buckets = await Buckets.create(connection, 1)
                await asyncio.gather(*(buckets.wanted.put(key, value) for key, value in ENTRIES.items()))
                await buckets.bundles.put("content", CONTENT)
                with pytest.raises(ObjectNotFoundError):
                    await stored_data(buckets.js, BUNDLES, "nothing")
                have_read = [asyncio.Event() for _ in range(8)]
                readers = [asyncio.ensure_future(read(buckets, has_read)) for has_read in have_read]
                await asyncio.gather(*(has_read.wait() for has_read in have_read))
                server.stop()
                ends = await asyncio.gather(*readers, return_exceptions=True)
                assert all(isinstance(end, (TimeoutError, NatsError)) for end in ends), ends
            finally:
                await close_nats(connection)

    asyncio.run(work())


def test_who_asks_jetstream_ends_where_its_client_library_swallows_that() -> None:
    """As `wait_for` of Python 3.11 does where a refusal comes at that very moment."""

    async def work() -> None:
        asking = asyncio.Event()

        async def refuses() -> None:
            asking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise TimeoutError

        asked = asyncio.ensure_future(answered(refuses))
        await asking.wait()
        asked.cancel()
        await asyncio.wait([asked])
        assert asked.cancelled()

    asyncio.run(work())


def _record(**fields: object) -> bytes:
    """Of an object `content`, as somebody else writes it."""
    whole = {"name": "content", "bucket": BUNDLES, "nuid": "none", "size": len(CONTENT), "chunks": 8}
    return msgspec.json.encode({**whole, "digest": "SHA-256=x", **fields})


def test_an_object_that_is_replaced_while_it_is_read_is_not_said_to_be_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        with nats_server(tmp_path) as server:
            connection = await connect_nats(NatsOptions([server.url]), "test")
            try:
                buckets = await Buckets.create(connection, 1)
                await buckets.bundles.put("content", CONTENT)
                js = connection.jetstream()
                look = js.stream_info

                async def after_another(*args: Any, **more: Any) -> Any:
                    await buckets.bundles.put("content", CONTENT)
                    return await look(*args, **more)

                with monkeypatch.context() as meanwhile:
                    meanwhile.setattr(js, "stream_info", after_another)
                    with pytest.raises(TimeoutError, match="replaced while it was read"):
                        await stored_data(js, BUNDLES, "content")
                assert await stored_data(js, BUNDLES, "content") == CONTENT
            finally:
                await close_nats(connection)

    asyncio.run(work())


DAMAGED = {
    "no chunks are there": lambda _: _record(size=10**15),
    "its digest is none": lambda info: _record(nuid=info.nuid),
    "its digest is another's": lambda info: _record(nuid=info.nuid, digest=f"SHA-256={'A' * 43}="),
    "its size is no number": lambda info: _record(nuid=info.nuid, size="many"),
    "its record is none": lambda _: b"{",
    "it has no digest": lambda info: _record(nuid=info.nuid, digest=None),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_object_is_said_to_be_one(case: str, tmp_path: Path) -> None:
    async def work() -> None:
        with nats_server(tmp_path) as server:
            connection = await connect_nats(NatsOptions([server.url]), "test")
            try:
                buckets = await Buckets.create(connection, 1)
                info = await buckets.bundles.put("content", CONTENT)
                assert await stored_data(buckets.js, BUNDLES, "content") == CONTENT
                subject = f"$O.{BUNDLES}.M.{base64.urlsafe_b64encode(b'content').decode()}"
                await buckets.js.publish(subject, DAMAGED[case](info), headers={"Nats-Rollup": "sub"})
                with pytest.raises(BadObject):
                    await asyncio.wait_for(stored_data(buckets.js, BUNDLES, "content"), 30)
            finally:
                await close_nats(connection)

    asyncio.run(work())


def test_a_read_takes_as_long_as_more_of_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time leaps with each entry, by less than what is borne of silence, and by more in all."""
    monkeypatch.setattr("tracker.fleet.reading.READ_AT_ONCE", 1)
    entries = {f"key{number}": b"value" for number in range(5)}

    async def work(url: str) -> None:
        async with connected_to(NatsOptions([url])) as nats:
            buckets = await Buckets.create(nats, 1)
            for key, value in entries.items():
                await buckets.wanted.put(key, value)
            loop, read = asyncio.get_running_loop(), buckets.js.get_last_msg
            now, leapt = loop.time, []

            async def read_slowly(*which: Any) -> RawStreamMsg:
                message = await read(*which)
                leapt.append(READ_S / 2)
                await asyncio.sleep(0)
                return message

            monkeypatch.setattr(loop, "time", lambda: now() + sum(leapt))
            monkeypatch.setattr(buckets.js, "get_last_msg", read_slowly)
            assert await all_entries(buckets.js, WANTED) == entries

    with nats_server(tmp_path) as server:
        asyncio.run(work(server.url))
