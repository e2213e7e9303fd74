"""What must not end, starve or confuse the daemon: an engine that fails, floods of requests, stops at bad times."""

import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from helpers.fakes import BlobEngine, Blobs
from helpers.tracking import SIZE_WH, Talk, blobs, configuration, serving, wait_until
from helpers.waiting import in_background
from tracker.daemon.daemon import Daemon
from tracker.daemon.discovery import Discovery
from tracker.errors import AtCapacity, BadRequest, TrackerError
from tracker.images.types import Image
from tracker.tracking.jobs import MAX_JOBS_OF_ONE, Jobs

MOVING = [20, 30]  # on frame 0
RESTING = [120, 90]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("video") / "blobs.mp4")


class Fragile(BlobEngine):
    """Fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.bad_frames: set[int] = set()
        self.bad_size: tuple[int, int] | None = None
        self.most_objects = 99
        self.poisoned: int | None = None  # memories with so many prompts

    def encode(self, images: Sequence[Image]) -> Blobs:
        if any(image.size_wh == self.bad_size for image in images):
            raise ValueError("a bad picture")
        return super().encode(images)

    def propagate(self, items: Any, features: Blobs) -> Any:
        if any(memory.prompts == self.poisoned for memory, _, _ in items):
            raise ValueError("a poisoned object")
        if any(frame in self.bad_frames for _, _, frame in items):
            raise ValueError("a bad frame")
        if len(items) > self.most_objects:
            raise AtCapacity("out of device memory")
        return super().propagate(items, features)


@pytest.fixture
def engine() -> Fragile:
    return Fragile()


@pytest.fixture
def talk(video: Path, engine: Fragile) -> Iterator[Talk]:
    with serving(configuration(streams={"cam": {"url": str(video), "loop": True}}), engine) as talk:
        talk.wait_for_frame(0)
        yield talk


@contextmanager
def flood(talk: Talk, op: str, **args: Any) -> Iterator[None]:
    """Requests as fast as they can be sent, by somebody who keeps two hundred of them under way."""
    request = msgpack.packb({"op": op, "args": args})

    def send(done: threading.Event) -> None:
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger = 0
            socket.connect(talk.daemon.control.endpoint)
            for _ in range(200):
                socket.send(request)
            while not done.is_set():
                if socket.poll(50):
                    socket.recv()
                    socket.send(request)

    with in_background(send):
        yield


def test_a_frame_that_the_engine_cannot_take_is_skipped_and_told(talk: Talk, engine: Fragile) -> None:
    talk.ask("objects.add", stream="cam", points=[RESTING])
    talk.subscribe("tracks/cam/")
    talk.subscribe("events/cam/")
    _, first = talk.receive()
    bad = engine.bad_frames = set(range(first["frame"] + 5, first["frame"] + 8))
    event = talk.receive_until(lambda m: m.get("event") == "overload")
    assert event["frame"] in bad
    assert "ValueError" in event["message"]
    after = talk.receive_until(lambda m: m["frame"] > max(bad) and "objects" in m)
    assert after["objects"][0]["state"] == "visible"
    assert after["dropped"] >= 3


def test_nothing_is_remembered_of_a_stream_that_failed_and_was_removed(engine: Fragile, video: Path) -> None:
    with serving(configuration(control={"allow_sources": [str(video)]}), engine) as talk:
        talk.subscribe("events/")
        for name in ("one", "two", "three"):
            talk.ask("streams.add", stream=name, url=str(video), loop=True)
            talk.wait_for_frame(0)
            fail_once(talk, engine, name)
            faults = set(talk.daemon._steps._faults._in_a_row)
            talk.ask("streams.remove", stream=name)
    assert faults <= {"three"}


def fail_once(talk: Talk, engine: Fragile, stream: str) -> None:
    talk.ask("objects.add", stream=stream, points=[RESTING])
    engine.bad_size = SIZE_WH
    talk.receive_until(lambda m: m["event"] == "overload" and m["stream"] == stream)
    engine.bad_size = None


@pytest.mark.parametrize("others", [0, 2])
def test_an_object_whose_step_raises_is_given_up_and_its_stream_goes_on(
    talk: Talk, engine: Fragile, others: int
) -> None:
    for _ in range(others):
        talk.ask("objects.add", stream="cam", points=[RESTING])
    bad = talk.ask("objects.add", stream="cam", points=[RESTING])["object"]
    talk.subscribe("events/cam/")
    engine.poisoned = 2
    talk.ask("objects.refine", stream="cam", object=bad, points=[RESTING])
    assert talk.receive_until(lambda m: m["event"] == "object_failed")["object"] == bad
    wait_until(lambda: len(talk.ask("objects.list")["objects"]) == others)
    if not others:
        talk.ask("objects.add", stream="cam", points=[RESTING])
    ages = [o["age"] for o in talk.ask("objects.list")["objects"]]
    wait_until(lambda: all(o["age"] > max(ages) + 3 for o in talk.ask("objects.list")["objects"]))


def ended_with(daemon: Daemon, break_it: Callable[[], object]) -> str:
    """What `run` raises after something was broken."""
    ended: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except Exception as error:  # noqa: BLE001
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        wait_until(daemon.ready.is_set)
        break_it()
        thread.join(30)
        assert not thread.is_alive()
    finally:
        daemon.stop()
        thread.join()
    return str(ended[0]) if ended else "nothing"


LOST = "CUDA error: an illegal memory access was encountered"


def lost(*_: Any) -> Any:
    raise RuntimeError(LOST)


@pytest.mark.parametrize(
    ("work", "op", "args"),
    [
        ("propagate", "objects.add", {"points": [RESTING]}),
        ("prompt", "objects.add", {"points": [RESTING]}),
        ("encode", "objects.add", {"points": [RESTING]}),
        ("look", "objects.add", {"points": [RESTING]}),  # without which an object is followed else
        ("prompt", "objects.add_many", {"detections": [{"box": [110, 80, 130, 100]}]}),
    ],
)
def test_a_lost_device_ends_the_process_at_once(
    video: Path, engine: Any, work: str, op: str, args: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it shows, and whether or not anything is tracked: until then every request would hear of it."""
    daemon = Daemon(configuration(streams={"cam": {"url": str(video), "loop": True}}), engine)
    talks: list[Talk] = []

    def break_it() -> None:
        talks.append(Talk(daemon))
        talks[0].wait_for_frame(0)
        monkeypatch.setattr(engine, work, lost)
        talks[0]._control.send(msgpack.packb({"id": 7, "op": op, "args": {"stream": "cam", **args}}))

    assert ended_with(daemon, break_it) == LOST
    talks[0].close()


def test_a_device_that_a_part_finds_lost_ends_the_process(
    video: Path, engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(configuration(streams={"cam": {"url": str(video), "loop": True}}), engine)
    assert ended_with(daemon, lambda: monkeypatch.setattr(Discovery, "tick", lost)) == LOST


def test_an_error_that_only_speaks_of_a_lost_device_ends_nothing(
    talk: Talk, engine: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that describes objects may have lost its own."""

    def quotes(*_: Any) -> Any:
        raise TrackerError(f"the server says: {LOST}")

    monkeypatch.setattr(Discovery, "tick", quotes)
    monkeypatch.setattr(engine, "prompt", quotes)
    assert LOST in talk.refused("objects.add", stream="cam", points=[RESTING])[1]
    wait_until(lambda: talk.daemon._context.failures.counts()["discovery"] > 2)
    assert talk.ask("server.info")


def test_a_status_that_cannot_be_told_ends_nothing(
    talk: Talk, engine: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    def broken() -> Any:
        asked.set()
        raise OSError("too many open files")

    monkeypatch.setattr(engine, "memory", broken)
    assert asked.wait(20)
    assert talk.ask("server.info")


def test_a_job_is_its_owner_s_and_ends_with_its_connection() -> None:
    class Peer:
        op = "segment.all"

        def __init__(self, id_: Any, owner: bytes) -> None:
            self.id, self.owner, self.gone = id_, owner, False
            self.failed: list[TrackerError] = []

        def reply(self, _: Any) -> None: ...

        def fail(self, error: TrackerError) -> None:
            self.failed.append(error)

    def endless() -> Any:
        while True:
            yield

    jobs = Jobs(0.5)
    mine, theirs = Peer(1, b"me"), Peer(1, b"them")
    for peer in (mine, theirs):
        jobs.add(peer, endless())
    for id_, owner in ((True, b"me"), (1, b"nobody"), (2, b"me")):
        with pytest.raises(BadRequest, match="of yours"):
            jobs.cancel(id_, owner)
    jobs.cancel(1, b"me")
    assert (len(mine.failed), len(theirs.failed)) == (1, 0)
    theirs.gone = True
    assert not jobs.run_slice(tracking=False)
    for i in range(MAX_JOBS_OF_ONE):
        jobs.add(Peer(i, b"me"), endless())
    with pytest.raises(AtCapacity, match="of yours"):
        jobs.check_room(b"me")
    jobs.check_room(b"them")


def test_other_streams_in_the_same_step_do_not_suffer(video: Path, engine: Fragile) -> None:
    streams = {
        "good": {"url": str(video), "loop": True},
        "bad": {"url": str(video), "loop": True, "size": [80, 60]},
    }
    with serving(configuration(streams=streams), engine) as talk:
        wait_until(lambda: all(stream["decoded"] for stream in talk.ask("streams.list")["streams"]))
        talk.ask("objects.add", stream="good", points=[RESTING])
        talk.ask("objects.add", stream="bad", points=[[60, 45]])
        talk.subscribe("events/bad/")
        engine.bad_size = (80, 60)
        assert "bad picture" in talk.receive_until(lambda m: m["event"] == "overload")["message"]
        age = talk.ask("objects.list", stream="good")["objects"][0]["age"]
        wait_until(lambda: talk.ask("objects.list", stream="good")["objects"][0]["age"] > age + 10)
        (good,) = talk.ask("objects.list", stream="good")["objects"]
        assert good["state"] == "visible"


def test_a_stream_whose_steps_only_fail_loses_its_objects_while_others_go_on(
    video: Path, engine: Fragile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Failures are counted for each stream: those of one end neither the others nor the process."""
    monkeypatch.setattr("tracker.daemon.faults.MAX_IN_A_ROW", 5)
    streams = {
        "good": {"url": str(video), "loop": True},
        "bad": {"url": str(video), "loop": True, "size": [80, 60]},
    }
    with serving(configuration(streams=streams), engine) as talk:
        wait_until(lambda: all(stream["decoded"] for stream in talk.ask("streams.list")["streams"]))
        talk.ask("objects.add", stream="good", points=[RESTING])
        talk.ask("objects.add", stream="bad", points=[[60, 45]])
        talk.subscribe("events/bad/")
        engine.bad_size = (80, 60)
        assert talk.receive_until(lambda m: m["event"] == "object_failed")["object"] == 1
        assert talk.ask("objects.list", stream="bad")["objects"] == []
        age = talk.ask("objects.list", stream="good")["objects"][0]["age"]
        wait_until(lambda: talk.ask("objects.list", stream="good")["objects"][0]["age"] > age + 3)


def test_an_engine_that_only_fails_ends_the_daemon(video: Path, engine: Any) -> None:
    """With an error: whoever watches it starts it again."""
    config = configuration(streams={"cam": {"url": str(video), "pace": "all", "loop": True}})
    daemon = Daemon(config, engine)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            daemon.run()
        except ValueError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(daemon.ready.is_set)
    talk = Talk(daemon)
    talk.wait_for_frame(0)
    talk.ask("objects.add", stream="cam", points=[RESTING])
    engine.bad_size = SIZE_WH
    talk.close()
    thread.join(30)
    assert [str(error) for error in ended] == ["a bad picture"]


def test_without_memory_the_newest_object_is_given_up(talk: Talk, engine: Fragile) -> None:
    for _ in range(3):
        talk.ask("objects.add", stream="cam", points=[RESTING])
    talk.subscribe("events/cam/")
    engine.most_objects = 2
    told = [talk.receive_until(lambda m: m["event"] in ("overload", "object_removed")) for _ in range(2)]
    assert {(m["event"], m["object"]) for m in told} == {("overload", 3), ("object_removed", 3)}
    wait_until(lambda: [o["age"] > 3 for o in talk.ask("objects.list")["objects"]] == [True, True])


class Narrow(BlobEngine):
    """Has memory for `most` pictures of a step; `left` is what failed steps held, until they are freed."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 99
        self.tried: list[int] = []
        self.left: weakref.WeakSet[threading.Event] = weakref.WeakSet()
        self.still_held = 0

    def encode(self, images: Sequence[Image]) -> Blobs:
        self.still_held += len(self.left)
        self.tried.append(len(images))
        held = threading.Event()
        if len(images) > self.most:
            self.left.add(held)
            raise AtCapacity("out of device memory")
        return super().encode(images)


def test_streams_too_many_for_one_step_share_several_and_keep_their_objects(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.tracking.scheduler.NARROW_S", math.inf)
    engine = Narrow()
    names = [f"cam{i}" for i in range(6)]
    streams = {name: {"url": str(video), "pace": "all", "loop": True} for name in (*names, "nothing")}
    with serving(configuration(streams=streams), engine) as talk:
        wait_until(lambda: all(stream["decoded"] for stream in talk.ask("streams.list")["streams"]))
        for name in names:
            talk.ask("objects.add", stream=name, points=[RESTING])
        wait_until(lambda: 6 in engine.tried)
        talk.subscribe("events/")
        engine.most = 2
        wait_until(lambda: max(engine.tried[-50:]) <= 2)
        oldest = max(o["age"] for o in talk.ask("objects.list")["objects"])
        wait_until(lambda: all(o["age"] > oldest + 5 for o in talk.ask("objects.list")["objects"]))
        assert len(talk.ask("objects.list")["objects"]) == 6
        assert engine.still_held == 0, "what a failed step held is freed before the next try"
        talk.ask("objects.remove", stream="cam0", object=1)
        assert talk.receive_until(lambda m: m["event"] in ("overload", "object_removed"))["stream"] == "cam0"
        assert {record["stream"] for record in talk.ask("objects.list")["objects"]} == set(names[1:])


def test_many_detections_do_not_hold_up_tracking(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = BlobEngine.prompt

    def prompt(*args: Any) -> Any:
        time.sleep(0.05)
        return quick(*args)

    talk.ask("objects.add", stream="cam", points=[RESTING])
    talk.subscribe("tracks/cam/")
    monkeypatch.setattr(BlobEngine, "prompt", prompt)
    other = Talk(talk.daemon)
    detections = [{"box": [110, 80, 130, 100]}] * 30
    replies: list[Any] = []
    asking = threading.Thread(
        target=lambda: replies.append(other.reply("objects.add_many", stream="cam", detections=detections))
    )
    asking.start()
    for _ in range(10):
        talk.receive()
    assert not replies
    asking.join()
    other.close()
    assert replies[0]["result"]["objects"][0]["object"] == 1


def test_an_overlay_is_given_though_the_tracked_frame_has_left_the_buffer(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = BlobEngine.propagate

    def propagate(*args: Any) -> Any:
        time.sleep(0.15)
        return quick(*args)

    monkeypatch.setattr(BlobEngine, "propagate", propagate)
    one_frame = {"mib": 0.03}
    with serving(configuration(streams={"cam": {"url": str(video), "loop": True, "buffer": one_frame}})) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        for _ in range(10):
            assert talk.ask("frames.get", stream="cam", overlay=True)["data"]


def test_a_flood_of_requests_does_not_starve_tracking(talk: Talk) -> None:
    talk.ask("objects.add", stream="cam", points=[RESTING])
    talk.subscribe("tracks/cam/")
    with flood(talk, "frames.get", stream="cam", format="png"):
        frames = [talk.receive()[1]["frame"] for _ in range(20)]
    assert frames == sorted(frames)


def test_nor_does_it_hold_up_the_stop(video: Path) -> None:
    with serving(configuration(streams={"cam": {"url": str(video), "loop": True}})) as talk:
        talk.wait_for_frame(0)
        with flood(talk, "frames.get", stream="cam", format="png"):
            wait_until(lambda: talk.ask("server.info"))
            talk.daemon.stop()
            (runner,) = [thread for thread in threading.enumerate() if thread.name == "daemon"]
            runner.join(10)
            assert not runner.is_alive()


def test_a_signal_that_comes_at_any_moment_stops_it(talk: Talk) -> None:
    """Signal handlers run in the middle of what the main thread does: also while that holds the event's lock."""
    with talk.daemon._wake._cond:  # type: ignore[attr-defined]
        talk.daemon.stop()


def test_nor_does_who_sends_without_end(video: Path) -> None:
    with serving(configuration(streams={"cam": {"url": str(video), "loop": True}})) as talk:
        talk.wait_for_frame(0)
        done = threading.Event()

        def send() -> None:
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.linger = 0
                socket.connect(talk.daemon.control.endpoint)
                while not done.is_set():
                    if socket.poll(50, zmq.POLLOUT):
                        socket.send(msgpack.packb({"op": "server.info"}), zmq.NOBLOCK)

        sender = threading.Thread(target=send)
        sender.start()
        talk.daemon.stop()
        (runner,) = [thread for thread in threading.enumerate() if thread.name == "daemon"]
        runner.join(10)
        ended = not runner.is_alive()
        done.set()
        sender.join()
        assert ended
