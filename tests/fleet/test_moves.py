"""Streams that no other box takes: people are told why, and the streams stay. Real NATS, boxes without cameras."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from benches.fleet_boxes import SimulatedDaemon
from helpers.boxes import asked, box_of, until
from helpers.fleets import NatsServer, nats_server
from tracker.cli.trackerd import trackerd
from tracker.client.nats_options import NatsOptions
from tracker.errors import BadRequest, TrackerError, Unavailable
from tracker.fleet import moves, people
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries
from tracker.fleet.records import ORDERS, BoxRecord
from tracker.fleet.settings import NatsConfig, RoomConfig, WantedStream
from tracker.protocol.records import StreamRecord

pytestmark = [pytest.mark.nats, pytest.mark.timeout(240)]

PATIENCE_S = 180.0
COMES = 3  # times that a box comes, and asks at another moment
CAM = WantedStream(url="file:///film.mp4", needs={"site": "north"})
NORTH: dict[str, Any] = {"labels": {"site": "north"}}


class RefusingDaemon(SimulatedDaemon):
    async def add_stream(self, *settings: Any) -> StreamRecord:  # noqa: ARG002 - none is served
        raise BadRequest("url: not in control.allow_sources")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def served_here(nats: NatsConfig) -> AsyncIterator[Buckets]:
    """A fleet of one box, `here`, that serves `cam`."""
    async with box_of(nats, SimulatedDaemon(), "here", **NORTH), asked(NatsOptions(list(nats.servers))) as buckets:
        await people.apply(buckets, {"cam": CAM}, prune=False)
        await until(lambda: is_live_on(buckets, "here"))
        yield buckets


async def is_live_on(buckets: Buckets, box: str) -> bool:
    return [(s.box, s.state) for s in (await people.state(buckets)).streams if s.stream == "cam"] == [(box, "live")]


async def _is_live(buckets: Buckets) -> bool:
    return [s.state for s in (await people.state(buckets)).streams] == ["live"]


async def _drained(buckets: Buckets) -> None:
    await moves.drain(buckets, "other")


async def _is_as_it_is(buckets: Buckets) -> None:
    pass


Happens = Callable[[Buckets], Awaitable[None]]
FULL: dict[str, Any] = {**NORTH, "room": RoomConfig(memory_fraction=0.0)}

# What the other box is, what happens to it, where the stream is to go, and what is said.
REFUSED: dict[str, tuple[dict[str, Any] | None, SimulatedDaemon, Happens, str | None, type[TrackerError], str]] = {
    "there is none": (None, SimulatedDaemon(), _is_as_it_is, None, BadRequest, "there is no other box"),
    "it lacks what is needed": (
        {"labels": {"site": "south"}},
        SimulatedDaemon(),
        _is_as_it_is,
        "other",
        BadRequest,
        "other: it has not what the stream needs, {'site': 'north'}",
    ),
    "it is drained": (NORTH, SimulatedDaemon(), _drained, None, BadRequest, "other: it is drained"),
    "its daemon is away": (
        NORTH,
        SimulatedDaemon(is_away=True),
        _is_as_it_is,
        None,
        Unavailable,
        "stays on here: other: its daemon does not answer",
    ),
    "it cannot serve it": (
        NORTH,
        RefusingDaemon(),
        _is_as_it_is,
        "other",
        Unavailable,
        "goes back to here: other: url: not in control.allow_sources",
    ),
    "it hangs": (
        None,
        SimulatedDaemon(),
        _is_as_it_is,
        None,
        Unavailable,
        "nobody took 'cam' within 1 s, and it stays on here: other: it could, and did not ask for it",
    ),
}

IN_VAIN = {"its daemon is away", "it hangs"}  # is waited for


@pytest.mark.parametrize("case", REFUSED)
def test_a_stream_that_cannot_be_moved_stays_and_people_are_told_why(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case in IN_VAIN:
        monkeypatch.setattr(moves, "PATIENCE_S", 1.0)
    other, daemon, happens, to, kind, says = REFUSED[case]

    async def work() -> None:
        nats = NatsConfig(servers=(server.url,))
        async with AsyncExitStack() as stack:
            buckets = await stack.enter_async_context(served_here(nats))
            if other is not None:
                await stack.enter_async_context(box_of(nats, daemon, "other", **other))
                await until(lambda: _are_there(buckets, {"here", "other"}))
            if case == "it hangs":
                await stack.enter_async_context(saying_that_it_could(buckets))
            await happens(buckets)
            with pytest.raises(kind, match=re.escape(says)):
                await moves.move(buckets, "cam", to)
            await until(lambda: is_live_on(buckets, "here"))
            assert [key for key in await _orders(buckets) if key.startswith("move")] == []

    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def test_a_stream_reaches_the_box_that_it_is_to_go_to_whenever_that_one_asks(server: NatsServer) -> None:
    """Others ask as well, and do not get it again and again."""

    async def work() -> None:
        nats = NatsConfig(servers=(server.url,))
        async with AsyncExitStack() as stack:
            for name in ("here", "elsewhere"):
                await stack.enter_async_context(box_of(nats, SimulatedDaemon(), name, **NORTH))
            buckets = await stack.enter_async_context(asked(NatsOptions([server.url])))
            await people.apply(buckets, {"cam": CAM}, prune=False)
            await until(partial(_is_live, buckets))
            for i in range(COMES):
                name = f"there{i}"
                async with box_of(nats, SimulatedDaemon(), name, **NORTH):
                    await until(partial(_are_there, buckets, {"here", "elsewhere", name}))
                    assert await moves.move(buckets, "cam", name) == name
                    await until(partial(is_live_on, buckets, name))
                    assert await moves.move(buckets, "cam", "here") == "here"
                    await until(partial(is_live_on, buckets, "here"))
                await buckets.boxes.purge(name)

    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def test_clocks_that_differ_do_not_matter(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        nats = NatsConfig(servers=(server.url,))
        async with AsyncExitStack() as stack:
            for name in ("here", "there", "elsewhere"):
                await stack.enter_async_context(box_of(nats, SimulatedDaemon(), name, **NORTH))
            buckets = await stack.enter_async_context(asked(NatsOptions([server.url])))
            await people.apply(buckets, {"cam": CAM}, prune=False)
            for name in ("here", "there", "elsewhere"):
                await until(partial(_are_there, buckets, {"here", "there", "elsewhere"}))
                await until(partial(_is_live, buckets))
                if not await is_live_on(buckets, name):
                    assert await moves.move(buckets, "cam", name) == name

    monkeypatch.setattr(moves, "time", SimpleNamespace(time=lambda: 1.0, monotonic=time.monotonic))
    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


def test_of_two_people_who_move_a_stream_at_once_one_is_told_that_it_went_elsewhere(
    server: NatsServer,
) -> None:
    async def work() -> list[str | BaseException]:
        nats = NatsConfig(servers=(server.url,))
        async with AsyncExitStack() as stack:
            buckets = await stack.enter_async_context(served_here(nats))
            for name in ("there", "elsewhere"):
                await stack.enter_async_context(box_of(nats, SimulatedDaemon(), name, **NORTH))
            await until(lambda: _are_there(buckets, {"here", "there", "elsewhere"}))
            both = (moves.move(buckets, "cam", name) for name in ("there", "elsewhere"))
            said = await asyncio.gather(*both, return_exceptions=True)
            assert [key for key in await _orders(buckets) if key.startswith("move")] == []
            return said

    said = asyncio.run(asyncio.wait_for(work(), PATIENCE_S))
    assert sum(what in ("there", "elsewhere") for what in said) == 1
    assert sum(isinstance(what, Unavailable) and "others move it too" in str(what) for what in said) == 1


@asynccontextmanager
async def saying_that_it_could(buckets: Buckets) -> AsyncIterator[None]:
    """A box that says it has room, and never asks for anything."""

    async def say() -> None:
        while True:
            record = BoxRecord(box="other", time=time.time(), labels={"site": "north"})
            await buckets.boxes.put("other", msgspec.json.encode(record))
            await asyncio.sleep(0.5)

    saying = asyncio.create_task(say())
    await until(lambda: _are_there(buckets, {"here", "other"}))
    yield
    saying.cancel()
    await asyncio.wait([saying])


async def _are_there(buckets: Buckets, names: set[str]) -> bool:
    return {record.box for record in await people.boxes(buckets)} == names


async def _orders(buckets: Buckets) -> list[str]:
    return list(await all_entries(buckets.js, ORDERS))


def typed(server: NatsServer, *words: str) -> Result:
    return CliRunner().invoke(trackerd, ["fleet", *words, "--nats", server.url])


def test_what_people_type_ends_also_where_nobody_takes_a_stream(
    server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> tuple[Result, Result, Result]:
        nats = NatsConfig(servers=(server.url,))
        async with (
            box_of(nats, SimulatedDaemon(), "here", **NORTH),
            asked(NatsOptions([server.url])) as buckets,
        ):
            await people.apply(buckets, {"cam": CAM}, prune=False)
            await until(lambda: is_live_on(buckets, "here"))
            with monkeypatch.context() as impatient:
                impatient.setattr(moves, "PATIENCE_S", 1.0)
                stuck = await asyncio.to_thread(typed, server, "drain", "here", "--wait")
            assert (await people.state(buckets)).drained == ["here"]
            async with box_of(nats, SimulatedDaemon(), "other", **NORTH):
                await until(lambda: is_live_on(buckets, "other"))
                drained = await asyncio.to_thread(typed, server, "drain", "here", "--wait")
                await asyncio.to_thread(typed, server, "drain", "here", "--undo")
                moved = await asyncio.to_thread(typed, server, "move", "cam")
        return stuck, drained, moved

    stuck, drained, moved = asyncio.run(asyncio.wait_for(work(), PATIENCE_S))
    assert isinstance(stuck.exception, Unavailable)
    assert "here still has cam: for 1 s nobody took one. cam: there is no other box" in str(stuck.exception)
    assert "still on here, until another box takes them: cam" in stuck.output
    assert (drained.exit_code, drained.output) == (0, "")
    assert (moved.exit_code, moved.output) == (0, "cam is on here\n")
