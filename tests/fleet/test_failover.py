"""A box dies, hangs or is cut off: its streams go on elsewhere with their objects, and readers follow."""

import signal
from pathlib import Path

import pytest

from helpers.fleets import START_S, TestFleet
from helpers.listeners import listening, owner_of
from helpers.waiting import wait_until
from tracker.client import Client
from tracker.errors import BadRequest, UnknownStream
from tracker.fleet.bundles import get_bundle
from tracker.fleet.settings import WantedStream

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

RESTING = (110, 80, 130, 100)  # the square that rests
STREAMS = ["cam0", "cam1", "hall.door"]


@pytest.fixture(scope="class")
def streams(fleet: TestFleet, film: Path) -> list[str]:
    fleet.apply({name: WantedStream(url=str(film), loop=True) for name in STREAMS})
    fleet.wait_for(lambda live: set(live) == set(STREAMS))
    return STREAMS


@pytest.mark.usefixtures("streams")
class TestAClientOfAFleet:
    def test_is_told_what_is_not_to_be_had(self, fleet: TestFleet) -> None:
        with Client(fleet=fleet.nats.url) as client:
            with pytest.raises(BadRequest, match="name the stream"):
                client.info()
            with pytest.raises(BadRequest, match="fleet rm"):
                client.remove_stream("cam0")
            with pytest.raises(UnknownStream, match="no stream 'cam7'"):
                client.objects("cam7")
            with pytest.raises(UnknownStream, match="no stream 'cam7'"):
                client.subscribe("cam7")
            with pytest.raises(ValueError, match="name a stream"):
                client.subscribe()
            with pytest.raises(ValueError, match="status"):
                client.subscribe("cam0", ("status",))


class TestAKilledBox:
    def test_loses_its_streams_and_nothing_else(self, fleet: TestFleet, streams: list[str]) -> None:
        with Client(fleet=fleet.nats.url) as client:
            added = {name: client.add(name, box=RESTING, label=f"post of {name}") for name in streams}
            assert all(result.durable for result in added.values())
            gone = client.add("cam0", box=RESTING)
            assert client.remove("cam0", gone.object).durable
            assert client.update("hall.door", added["hall.door"].object, label="door").durable
            victim = fleet.live()["cam0"]
            with listening(client, "cam0") as listener:
                fleet.boxes[victim].kill()
                assert listener.until_moved().gap_s > 0
            fleet.wait_for(lambda live: set(live) == set(streams) and victim not in live.values())
            for name in streams:
                (entry,) = client.objects(name).objects
                assert entry.object == added[name].object
                assert entry.label == ("door" if name == "hall.door" else f"post of {name}")
            wait_until(lambda: client.objects("cam0").objects[0].state == "visible", START_S)
            assert client.add("cam0", box=RESTING).object > gone.object  # ids never come back


@pytest.mark.usefixtures("streams")
class TestAStoppedBox:
    def test_gives_up_what_is_anothers_when_it_wakes(self, fleet: TestFleet) -> None:
        victim = fleet.live()["cam0"]
        with Client(fleet=fleet.nats.url) as client, fleet.client(victim) as old:
            added = client.add("cam0", box=RESTING)
            with listening(client, "cam0") as listener:
                fleet.boxes[victim].signal(signal.SIGSTOP)
                moved = listener.until_moved()
                assert client.update("cam0", added.object, label="newer").durable
                fleet.boxes[victim].signal(signal.SIGCONT)
                wait_until(lambda: "cam0" not in [s.stream for s in old.streams().streams], START_S)
                assert [owner_of(listener.next()) for _ in range(5)] == [owner_of(moved)] * 5
            assert next(o.label for o in client.objects("cam0").objects) == "newer"
        stored = fleet.do(lambda buckets: get_bundle(buckets.bundles, "cam0", [owner_of(moved)]))
        assert [one.record.label for one in stored.objects] == ["newer"]
