"""Streams are moved for a reason, without a gap; NATS may be away, for all boxes or for one."""

import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from helpers.fleets import LOOK_S, START_S, TestFleet
from helpers.listeners import Ear, ear
from helpers.waiting import wait_until
from tracker.client import Client
from tracker.errors import BadRequest, UnknownStream
from tracker.fleet import moves, people
from tracker.fleet.records import ACK_WAIT_S
from tracker.fleet.settings import WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

RESTING = (110, 80, 130, 100)
STREAMS = [f"cam{i}" for i in range(6)]


@pytest.fixture(scope="class")
def streams(fleet: TestFleet, film: Path) -> list[str]:
    fleet.apply({name: WantedStream(url=str(film), loop=True) for name in STREAMS})
    fleet.wait_for(lambda live: set(live) == set(STREAMS))
    return STREAMS


def owners(fleet: TestFleet) -> dict[str, str | None]:
    return {s.stream: s.owner for s in fleet.state().streams}


class TestDraining:
    def test_gives_every_stream_to_others_without_a_gap(self, fleet: TestFleet, streams: list[str]) -> None:
        box = "north-1"
        with Client(fleet=fleet.nats.url) as client, ExitStack() as stack:
            added = {name: client.add(name, box=RESTING) for name in streams}
            ears = [stack.enter_context(ear(fleet.nats.url, name)) for name in streams]
            moved = [name for name, at in fleet.live().items() if at == box]
            fleet.do(lambda buckets: moves.drain(buckets, box))
            fleet.wait_for(lambda live: len(live) == len(streams) and box not in live.values())
            with fleet.client(box) as drained:
                wait_until(lambda: drained.streams().streams == [], START_S)
            for name in streams:
                assert [o.object for o in client.objects(name).objects] == [added[name].object]
        assert moved
        assert [len(one.owners) for one in ears] == [2 if name in moved else 1 for name in streams]
        assert fleet.state().drained == [box]
        wait_until(
            lambda: "it is drained" in [b.message for b in fleet.state().boxes if b.box == box], START_S, LOOK_S
        )

    def test_a_box_that_is_drained_takes_nothing_until_that_is_undone(self, fleet: TestFleet, film: Path) -> None:
        fleet.apply({f"more{i}": WantedStream(url=str(film), loop=True) for i in range(4)})
        fleet.wait_for(lambda live: len(live) == 10)
        assert "north-1" not in fleet.live().values()
        fleet.do(lambda buckets: moves.undo_drain(buckets, "north-1"))
        fleet.wait_for_boxes(["north-1"])

    def test_no_other_box_can_be_drained(self, fleet: TestFleet) -> None:
        with pytest.raises(BadRequest, match="no box is called 'west'; there: north-1, north-2"):
            fleet.do(lambda buckets: moves.drain(buckets, "west"))


@pytest.mark.usefixtures("streams")
class TestMoving:
    def test_a_stream_goes_to_the_box_that_is_named(self, fleet: TestFleet) -> None:
        target = next(box for box in fleet.boxes if box != fleet.live()["cam0"])
        others = {name: owner for name, owner in owners(fleet).items() if name != "cam0"}
        fleet.do(lambda buckets: moves.move(buckets, "cam0", target))
        fleet.wait_for(lambda live: live.get("cam0") == target)
        assert {name: owner for name, owner in owners(fleet).items() if name != "cam0"} == others

    def test_or_to_any_other(self, fleet: TestFleet) -> None:
        before = fleet.live()["cam1"]
        fleet.do(lambda buckets: moves.move(buckets, "cam1", None))
        fleet.wait_for(lambda live: live.get("cam1", before) != before)

    def test_a_stream_that_is_removed_and_wanted_anew_begins_from_nothing(
        self, fleet: TestFleet, film: Path
    ) -> None:
        box = fleet.live()["cam2"]
        with Client(fleet=fleet.nats.url) as client, fleet.client(box) as old:
            assert client.add("cam2", box=RESTING).durable
            fleet.boxes[box].signal(signal.SIGSTOP)  # its owner hears of it when it is another's already
            fleet.do(partial(people.remove, streams=["cam2"]))
            fleet.apply({"cam2": WantedStream(url=str(film), loop=True)})
            fleet.wait_for(lambda live: live.get("cam2", box) != box)
            fleet.boxes[box].signal(signal.SIGCONT)
            assert client.objects("cam2").objects == []
            wait_until(lambda: "cam2" not in [s.stream for s in old.streams().streams], START_S)
        fleet.wait_for(lambda live: set(live) == set(STREAMS))

    def test_what_cannot_be_is_refused(self, fleet: TestFleet, film: Path) -> None:
        fleet.apply({"yard": WantedStream(url=str(film), loop=True, needs={"site": "south"})})
        fleet.wait_for(lambda live: "yard" in live)
        refusals: list[tuple[str, str | None, type[Exception], str]] = [
            ("cam9", None, UnknownStream, "no stream 'cam9'"),
            ("cam0", "west", BadRequest, "no box is called 'west'"),
            ("cam0", fleet.live()["cam0"], BadRequest, "already"),
            ("yard", "north-1", BadRequest, "needs"),
        ]
        for stream, to, kind, says in refusals:
            with pytest.raises(kind, match=says):
                fleet.do(partial(moves.move, stream=stream, to=to))


def _notes(fleet: TestFleet, box: str) -> dict[str, str]:
    with fleet.client(box) as client:
        return client.info().notes


@dataclass
class Outage:
    before: dict[str, str | None]
    ears: list[Ear]
    notes: list[dict[str, str]]  # of the daemons, while NATS was away


@pytest.fixture(scope="class")
def outage(fleet: TestFleet, streams: list[str]) -> Outage:
    """NATS is away for longer than a box may be silent."""
    before = owners(fleet)
    with ExitStack() as stack:
        ears = [stack.enter_context(ear(fleet.nats.url, name)) for name in streams[:2]]
        fleet.nats.stop()
        counts = [one.messages for one in ears]
        deadline_s = time.monotonic() + 1.5 * ACK_WAIT_S

        def heard() -> list[int]:
            return [one.messages - count for one, count in zip(ears, counts, strict=True)]

        wait_until(lambda: time.monotonic() > deadline_s and min(heard()) > 5, START_S)
        notes = [_notes(fleet, box) for box in fleet.boxes]
        fleet.nats.start()
        fleet.wait_for_boxes(list(fleet.boxes))
    return Outage(before, ears, notes)


class TestNatsGone:
    def test_what_runs_goes_on(self, outage: Outage) -> None:
        assert [len(one.owners) for one in outage.ears] == [1, 1]

    def test_people_are_told_by_every_daemon(self, outage: Outage, fleet: TestFleet) -> None:
        assert [list(notes) for notes in outage.notes] == [["fleet"]] * len(fleet.boxes)
        assert "NATS is gone" in outage.notes[0]["fleet"]
        wait_until(lambda: not any(_notes(fleet, box) for box in fleet.boxes), START_S)

    def test_nothing_moves_when_it_returns_and_placement_resumes(
        self, outage: Outage, fleet: TestFleet, film: Path
    ) -> None:
        fleet.apply({"late": WantedStream(url=str(film), loop=True)})
        fleet.wait_for(lambda live: "late" in live)
        assert {name: owner for name, owner in owners(fleet).items() if name != "late"} == outage.before


class TestABoxThatIsCutOff:
    def test_loses_its_streams_and_readers_follow(self, fleet: TestFleet, streams: list[str]) -> None:
        cut = "south.1"
        before = fleet.live()
        theirs = [name for name in streams if before[name] == cut]
        assert theirs
        with ear(fleet.nats.url, theirs[0]) as heard, fleet.client(cut) as old:
            fleet.network.cut()
            try:
                fleet.wait_for(lambda live: len(live) == len(streams) and cut not in live.values())
                assert {s.stream for s in old.streams().streams} == set(
                    theirs
                )  # it knows nothing of it, and goes on
                wait_until(lambda: len(heard.owners) == 2, START_S)
            finally:
                fleet.network.mend()
            wait_until(lambda: old.streams().streams == [], START_S)  # back, it gives up what is others'
            count = heard.messages
            wait_until(lambda: heard.messages > count + 3, START_S)
        assert len(heard.owners) == 2
        assert {name: box for name, box in fleet.live().items() if name not in theirs} == {
            name: box for name, box in before.items() if name not in theirs
        }
