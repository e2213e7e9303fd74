"""What is read of NATS ends, also where the server goes meanwhile."""

import asyncio
import time
from pathlib import Path

import pytest
from nats.errors import Error as NatsError
from nats.js.errors import ObjectNotFoundError

from helpers.fleets import nats_server
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.fleet import reading
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries, stored_data
from tracker.fleet.records import WANTED

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

ENTRIES = {f"key{number}": b"value" for number in range(300)}
CONTENT = bytes(1 << 20)


def test_a_read_ends_where_the_server_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_S", 2.0)

    async def read(buckets: Buckets) -> None:
        """Raises what a read that was cut off raises."""
        while True:
            assert await all_entries(buckets.js, WANTED) == ENTRIES
            assert await stored_data(buckets.bundles, "content") == CONTENT

    async def work() -> None:
        with nats_server(tmp_path) as server:
            connection = await connect_nats(NatsOptions([server.url]), "test")
            try:
                buckets = await Buckets.create(connection, 1)
                await asyncio.gather(*(buckets.wanted.put(key, value) for key, value in ENTRIES.items()))
                await buckets.bundles.put("content", CONTENT)
                with pytest.raises(ObjectNotFoundError):
                    await stored_data(buckets.bundles, "nothing")
                readers = [asyncio.ensure_future(read(buckets)) for _ in range(8)]
                await asyncio.wait(readers, timeout=1.0)
                assert not any(reader.done() for reader in readers)
                server.stop()
                gone_s = time.monotonic()
                ends = await asyncio.wait_for(asyncio.gather(*readers, return_exceptions=True), 30)
                assert time.monotonic() - gone_s < 15
                assert all(isinstance(end, (TimeoutError, NatsError)) for end in ends), ends
            finally:
                await close_nats(connection)

    asyncio.run(work())
