"""The client library against a real control and publish socket with a small handler behind them."""

import asyncio
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import zmq
from msgspec import Struct, structs

from helpers.binds import BINDS, reached
from helpers.fake_daemon import MOVED, OBJECT, STREAM, FakeDaemon, tracks
from helpers.waiting import in_background, wait_until
from tracker import errors
from tracker.client import AsyncClient, Client, connection, mask_of
from tracker.client.messages import Message, Reader, subscriptions
from tracker.config import StreamConfig, ZoneConfig
from tracker.masks.geometry import shape_of_mask
from tracker.masks.rle import rle_encode
from tracker.protocol import fields, look_requests, messages, object_requests, replies, requests
from tracker.protocol.codec import encode
from tracker.protocol.object_requests import Detection
from tracker.protocol.operations import OPERATIONS
from tracker.sockets.publisher import Publisher


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with Client(daemon.control.endpoint, timeout_s=20) as client:
        yield client


@pytest.mark.parametrize("bind", BINDS)
def test_both_sockets_are_reached_wherever_they_are_bound(bind: str) -> None:
    daemon = FakeDaemon(control=bind, publish=bind)
    try:
        with Client(reached(daemon.control.endpoint), timeout_s=20) as client:
            assert client.streams().streams == [STREAM]
            with client.tracks("cam1") as frames:
                wait_until(lambda: daemon.publisher.wanted("tracks/cam1/"))
                daemon.publisher.publish("tracks/cam1/", tracks(5))
                assert next(frames).frame == 5
    finally:
        daemon.stop()


@pytest.mark.parametrize(
    ("publish", "control", "there"),
    [
        ("tcp://0.0.0.0:5571", "tcp://gate-pc:5570", "tcp://gate-pc:5571"),
        ("tcp://*:5571", "tcp://gate-pc:5570", "tcp://gate-pc:5571"),
        ("tcp://[::]:5571", "tcp://[fd00::2]:5570", "tcp://[fd00::2]:5571"),
        ("tcp://[::ffff:0.0.0.0]:5571", "tcp://10.0.0.2:5570", "tcp://10.0.0.2:5571"),
        ("tcp://10.0.0.3:5571", "tcp://10.0.0.2:5570", "tcp://10.0.0.3:5571"),
        ("ipc:///run/publish.sock", "tcp://10.0.0.2:5570", "ipc:///run/publish.sock"),
        ("tcp://0.0.0.0:5571", "ipc:///run/control.sock", "tcp://0.0.0.0:5571"),
    ],
)
def test_a_daemon_that_is_bound_on_every_address_is_heard_where_it_is_asked(
    publish: str, control: str, there: str
) -> None:
    """Else a program on another machine would wait for messages of its own."""
    assert connection.as_reached(publish, control) == there


MASK_HW = np.eye(48, 64, dtype=bool)
BOX = (1.0, 2.0, 30.0, 40.0)
CALLS: list[tuple[str, Callable[[Any], Any], Struct]] = [
    ("server.info", lambda c: c.info(), requests.ServerInfoArgs()),
    ("server.note", lambda c: c.note("fleet", "away"), requests.ServerNote(name="fleet", message="away")),
    ("streams.list", lambda c: c.streams(), requests.StreamsListArgs()),
    (
        "streams.add",
        lambda c: c.add_stream("cam1", StreamConfig(url="rtsp://x/", pace="all", size=(64, 48))),
        requests.StreamsAdd(stream="cam1", url="rtsp://x/", pace="all", size=(64, 48)),
    ),
    ("streams.remove", lambda c: c.remove_stream("cam1"), requests.StreamName(stream="cam1")),
    ("streams.pause", lambda c: c.pause_stream("cam1"), requests.StreamName(stream="cam1")),
    ("streams.resume", lambda c: c.resume_stream("cam1"), requests.StreamName(stream="cam1")),
    (
        "frames.get",
        lambda c: c.snapshot("cam1", 5, format="png", max_width=320, overlay=True),
        requests.FramesGet(stream="cam1", frame=5, format="png", max_width=320, overlay=True),
    ),
    (
        "objects.add",
        lambda c: c.add("cam1", points=[(1, 2)], labels=[1], object=7, label="cat", meta={"k": b"v"}, expire_s=3),
        object_requests.ObjectsAdd(
            stream="cam1", points=[(1, 2)], labels=[1], object=7, label="cat", meta={"k": b"v"}, expire_s=3
        ),
    ),
    (
        "objects.add",
        lambda c: c.add("cam1", mask=MASK_HW, time=12.5),
        object_requests.ObjectsAdd(stream="cam1", mask=fields.Rle((48, 64), rle_encode(MASK_HW)), time=12.5),
    ),
    (
        "objects.add_many",
        lambda c: c.add_many("cam1", [Detection(box=BOX, label="cat", score=0.5)], frame=5, match_iou=0.4),
        object_requests.ObjectsAddMany(
            stream="cam1",
            detections=[Detection(box=BOX, label="cat", score=0.5)],
            frame=5,
            match_iou=0.4,
        ),
    ),
    (
        "objects.refine",
        lambda c: c.refine("cam1", 7, box=BOX, replace=True),
        object_requests.ObjectsRefine(stream="cam1", object=7, box=BOX, replace=True),
    ),
    (
        "objects.update",
        lambda c: c.update("cam1", 7, label=None),
        object_requests.ObjectsUpdate(stream="cam1", object=7, label=None),
    ),
    ("objects.remove", lambda c: c.remove("cam1", 7), object_requests.ObjectsRemove(stream="cam1", object=7)),
    (
        "objects.remove",
        lambda c: c.remove("cam1", all=True),
        object_requests.ObjectsRemove(stream="cam1", all=True),
    ),
    ("objects.list", lambda c: c.objects(), object_requests.ObjectsList()),
    (
        "segment.prompt",
        lambda c: c.segment("cam1", points=[(1, 2)], multimask=True),
        requests.SegmentPrompt(stream="cam1", points=[(1, 2)], multimask=True),
    ),
    (
        "segment.all",
        lambda c: c.segment_all("cam1", job="j", points_per_side=8),
        requests.SegmentAll(stream="cam1", points_per_side=8),
    ),
    (
        "objects.export",
        lambda c: c.export_object("cam1", 7, "t", 5),
        object_requests.ObjectsExport(stream="cam1", object=7, token="t", offset=5),
    ),
    (
        "objects.import",
        lambda c: c.import_object("cam1", MOVED, 9, b"data", 5),
        object_requests.ObjectsImport(stream="cam1", record=MOVED, size=9, data=b"data", offset=5),
    ),
    ("segment.cancel", lambda c: c.cancel_segment_all("j"), requests.SegmentCancel(id="j")),
    (
        "objects.describe",
        lambda c: c.describe("cam1", 7, "what is written on it?"),
        object_requests.ObjectsDescribe(stream="cam1", object=7, question="what is written on it?"),
    ),
    (
        "search.similar",
        lambda c: c.similar(stream="cam1", object=7, on="cam2", limit=5),
        look_requests.SearchSimilar(stream="cam1", object=7, on="cam2", limit=5),
    ),
    (
        "watch.add",
        lambda c: c.watch_for("truck", picture=b"jpeg", box=BOX, threshold=0.8),
        look_requests.WatchAdd(name="truck", picture=b"jpeg", box=BOX, threshold=0.8),
    ),
    ("watch.list", lambda c: c.watched(), look_requests.WatchListArgs()),
    ("watch.remove", lambda c: c.stop_watching(3), look_requests.WatchRemove(watch=3)),
    (
        "zones.set",
        lambda c: c.set_zone("cam1", "gate", ZoneConfig(line=((0, 0), (9, 9)), labels=["cat"])),
        requests.ZonesSet(stream="cam1", zone="gate", line=((0, 0), (9, 9)), labels=["cat"]),
    ),
    ("zones.remove", lambda c: c.remove_zone("cam1", "gate"), requests.ZonesRemove(stream="cam1", zone="gate")),
    ("zones.list", lambda c: c.zones("cam1"), requests.ZonesList(stream="cam1")),
    ("history.list", lambda c: c.history(stream="cam1"), requests.HistoryList(stream="cam1")),
]


def test_the_table_holds_every_operation() -> None:
    assert {op for op, _, _ in CALLS} == set(OPERATIONS)


@pytest.mark.parametrize(("op", "call", "args"), CALLS)
def test_arguments_arrive_and_results_come_back_typed(
    daemon: FakeDaemon, client: Client, op: str, call: Callable[[Any], Any], args: Struct
) -> None:
    assert call(client) == daemon.answers[op]
    request = daemon.asked.get(timeout=20)
    assert (request.op, request.args) == (op, args)


@pytest.mark.parametrize(("op", "call", "args"), CALLS)
def test_the_same_awaited(daemon: FakeDaemon, op: str, call: Callable[[Any], Any], args: Struct) -> None:
    async def ask() -> Any:
        async with AsyncClient(daemon.control.endpoint, timeout_s=20) as client:
            return await call(client)

    assert asyncio.run(ask()) == daemon.answers[op]
    assert daemon.asked.get(timeout=20).args == args


ERRORS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TrackerError)
]
ERRORS = [kind for kind in ERRORS if kind not in (errors.ConfigError, errors.ModelError, errors.SourceError)]


NEVER_SENT = (errors.Timeout, errors.FrameMarked)  # the client's own; each door gives it as a BadPrompt


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if not issubclass(kind, NEVER_SENT)])
def test_errors_come_back_as_they_were_raised(
    daemon: FakeDaemon, client: Client, kind: type[errors.TrackerError]
) -> None:
    daemon.answers["objects.add"] = kind("field: what was wrong; what would be right")
    with pytest.raises(kind, match="what would be right") as caught:
        client.add("cam1", points=[(1, 1)])
    assert type(caught.value) is kind


def test_what_the_daemon_refuses_unasked_comes_back_too(client: Client) -> None:
    with pytest.raises(errors.BadRequest, match=r"args\.stream: must be text: 1 to 64 of a-z"):
        client.remove_stream("Not A Name")
    with pytest.raises(errors.TooLarge, match="at most 4096"):
        client.add("cam1", points=[(1, 1)], meta={"blob": b"x" * 5000})


def test_a_call_times_out_and_the_next_one_gets_its_own_reply(daemon: FakeDaemon, client: Client) -> None:
    daemon.answers["objects.list"] = None
    client.timeout_s = 0.1
    with pytest.raises(errors.Timeout, match=r"no reply from tcp://.* within 0\.1 s; is the daemon running"):
        client.objects()
    daemon.asked.get(timeout=20).reply(replies.ObjectList(objects=[]))
    client.timeout_s = 20
    assert client.streams().streams == [STREAM]


def test_a_request_that_timed_out_is_never_carried_out_later() -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as late:
        port = late.bind_to_random_port("tcp://127.0.0.1")
        late.unbind(f"tcp://127.0.0.1:{port}")
        with Client(f"tcp://127.0.0.1:{port}", timeout_s=0.1) as client:
            with pytest.raises(errors.Timeout):
                client.remove("cam1", all=True)
            late.bind(f"tcp://127.0.0.1:{port}")
            assert not late.poll(500)


def test_one_client_serves_many_threads_at_once(daemon: FakeDaemon, client: Client) -> None:
    answers: list[replies.StreamList] = []

    def work() -> None:
        answers.extend(client.streams() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [daemon.answers["streams.list"]] * 160


def test_many_awaited_at_once_and_some_cancelled(daemon: FakeDaemon) -> None:
    async def ask() -> list[Any]:
        async with AsyncClient(daemon.control.endpoint, timeout_s=20) as client:
            daemon.answers["objects.list"] = None
            doomed = [asyncio.create_task(client.objects()) for _ in range(5)]
            await asyncio.sleep(0.05)
            for task in doomed:
                task.cancel()
            return await asyncio.gather(*(client.streams() for _ in range(30)))

    assert asyncio.run(ask()) == [daemon.answers["streams.list"]] * 30


def test_awaiting_in_vain_times_out(daemon: FakeDaemon) -> None:
    async def ask() -> None:
        async with AsyncClient(daemon.control.endpoint, daemon.publisher.endpoint, timeout_s=0.1) as client:
            daemon.answers["objects.list"] = None
            with pytest.raises(errors.Timeout):
                await client.objects()
            async with client.subscribe(timeout_s=0.1) as messages:
                with pytest.raises(errors.Timeout, match="no message"):
                    await anext(messages)

    asyncio.run(ask())


def feed(publisher: Publisher, stop: threading.Event) -> None:
    for frame in itertools.count():
        publisher.publish("tracks/cam1/", tracks(frame))
        publisher.publish("tracks/cam10/", tracks(frame, "cam10"))
        publisher.publish(
            "frames/cam1/320/",
            messages.FrameMessage(stream="cam1", frame=frame, time=1.0, size=(64, 48), format="jpeg"),
            b"image",
        )
        if stop.wait(0.005):
            return


@pytest.fixture
def feeding(daemon: FakeDaemon) -> Iterator[None]:
    with in_background(lambda done: feed(daemon.publisher, done)):
        yield


@pytest.mark.usefixtures("feeding")
def test_messages_come_typed_and_numbered(client: Client) -> None:
    with client.subscribe("cam1", ("tracks",), timeout_s=20) as subscription:
        received = list(itertools.islice(subscription, 5))
    assert {message.topic for message in received} == {"tracks/cam1/"}
    assert all(
        isinstance(message.body, messages.Tracks) and message.body.objects == [OBJECT] for message in received
    )
    assert [message.lost for message in received] == [0] * 5


@pytest.mark.usefixtures("feeding")
def test_images_come_with_their_messages(client: Client) -> None:
    with client.subscribe("cam1", ("frames/320",), timeout_s=20) as subscription:
        message = next(subscription)
    assert isinstance(message.body, messages.FrameMessage)
    assert message.image == b"image"


@pytest.mark.usefixtures("feeding")
def test_all_streams_and_asynchronously(daemon: FakeDaemon) -> None:
    async def listen() -> set[str]:
        async with AsyncClient(daemon.control.endpoint) as client, client.subscribe(timeout_s=20) as messages:
            seen: set[str] = set()
            async for message in messages:
                seen.add(message.topic)
                if len(seen) == 2:
                    return seen
        raise AssertionError

    assert asyncio.run(listen()) == {"tracks/cam1/", "tracks/cam10/"}


def read(reader: Reader, seq: int, instance: str = "i1", topic: str = "tracks/cam1/") -> Message:
    return reader.read([topic.encode(), encode(structs.replace(tracks(0), seq=seq, instance=instance))])


def test_gaps_are_counted_by_topic_and_a_new_instance_begins_anew() -> None:
    reader = Reader()
    assert (read(reader, 5).lost, read(reader, 6).lost, read(reader, 9).lost) == (0, 0, 2)
    assert read(reader, 3, topic="tracks/cam2/").lost == 0
    restarted = read(reader, 1, instance="i2")
    assert (restarted.restarted, restarted.lost) == (True, 1)
    after = read(reader, 2, instance="i2")
    assert (after.restarted, after.lost) == (False, 0)


@pytest.mark.parametrize(
    "parts",
    [
        [b"tracks/cam1/"],
        [b"tracks/cam1/", b"\xc1"],
        [b"tracks/cam1/", b"\x80"],
        [b"tracks/cam1/", b"\x81\xa6stream\xa2\xff\xff"],  # no text
        [b"tracks/cam1/", b"\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"],  # too deep
        [b"new/", b"\x80"],
        [b"\xff", b""],
    ],
)
def test_messages_of_another_protocol_are_refused(parts: list[bytes]) -> None:
    with pytest.raises(errors.TrackerError, match="is not of protocol version 1"):
        Reader().read(parts)


@pytest.mark.parametrize(
    ("stream", "topics", "prefixes"),
    [
        ("cam1", ["tracks", "events", "status"], ["tracks/cam1/", "events/cam1/", "status/"]),
        (None, ["tracks", "frames"], ["tracks/", "frames/"]),
        ("cam1", ["frames", "frames/full"], ["frames/cam1/", "frames/cam1/full/"]),
    ],
)
def test_topics_become_prefixes(stream: str | None, topics: list[str], prefixes: list[str]) -> None:
    assert subscriptions(stream, topics) == prefixes


@pytest.mark.parametrize(("stream", "topic"), [("cam1", "track"), (None, "frames/320"), ("cam1", "tracks/320")])
def test_wrong_topics_are_refused(client: Client, stream: str | None, topic: str) -> None:
    with pytest.raises(ValueError, match=r"no topic|name the stream"):
        client.subscribe(stream, [topic])


@pytest.mark.usefixtures("feeding")
def test_tracks_come_typed_and_alone(client: Client) -> None:
    with client.tracks("cam1", timeout_s=20) as frames:
        received = [next(frames) for _ in range(3)]
    assert [tracks.objects for tracks in received] == [[OBJECT]] * 3


@pytest.mark.usefixtures("feeding")
def test_tracks_come_without_with_too_when_awaited(daemon: FakeDaemon) -> None:
    async def listen() -> int:
        async with AsyncClient(daemon.control.endpoint) as client:
            async for tracks in client.tracks("cam1", timeout_s=20):
                return len(tracks.objects)
        raise AssertionError

    assert asyncio.run(listen()) == 1


def listen_both(daemon: FakeDaemon, stream: str, timeout_s: float = 20) -> list[Callable[[], Any]]:
    """The same subscription by both clients, up to its first message."""

    def listen() -> Any:
        with Client(daemon.control.endpoint, timeout_s=timeout_s) as client, client.tracks(stream) as frames:
            return next(frames)

    async def wait() -> Any:
        client = AsyncClient(daemon.control.endpoint, timeout_s=timeout_s)
        async with client, client.tracks(stream) as frames:
            return await anext(frames)

    return [listen, lambda: asyncio.run(wait())]


def test_who_listens_to_a_stream_that_is_not_there_is_told(daemon: FakeDaemon) -> None:
    for listen in listen_both(daemon, "cam2"):
        with pytest.raises(errors.UnknownStream, match="no stream is called 'cam2'; there: cam1"):
            listen()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.05)


@pytest.mark.usefixtures("impatient")
def test_who_listens_to_a_stream_that_is_removed_meanwhile_is_told(daemon: FakeDaemon) -> None:
    for listen in listen_both(daemon, "cam1"):
        with gone_after(daemon, replies.StreamList(streams=[])), pytest.raises(errors.UnknownStream):
            listen()


@pytest.mark.usefixtures("impatient")
def test_who_listens_to_a_daemon_that_goes_away_is_told(daemon: FakeDaemon) -> None:
    for listen in listen_both(daemon, "cam1", timeout_s=2):
        with gone_after(daemon, None), pytest.raises(errors.DaemonGone, match="the daemon is gone"):
            listen()


@pytest.mark.usefixtures("impatient")
def test_silence_of_a_daemon_that_is_there_is_borne(client: Client) -> None:
    with (
        client.tracks("cam1", timeout_s=0.3) as frames,
        pytest.raises(errors.Timeout, match="no message") as caught,
    ):
        next(frames)
    assert type(caught.value) is errors.Timeout


@contextmanager
def gone_after(daemon: FakeDaemon, then: Any) -> Iterator[None]:
    """The stream is there when it is subscribed to; whoever asks again is answered `then`, or not at all."""
    before = daemon.answers["streams.list"]
    handle = daemon.asked.put

    def asked(request: Any) -> None:
        handle(request)
        if request.op == "streams.list":
            asks.append(request)
            daemon.answers["streams.list"] = before if len(asks) == 1 else then

    asks: list[Any] = []
    daemon.on_request = asked
    try:
        yield
    finally:
        daemon.answers["streams.list"] = before


def test_the_environment_names_the_daemon(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    with Client() as client:
        assert client.control == "tcp://127.0.0.1:5570"
    monkeypatch.setenv("TRACKER_CONTROL", daemon.control.endpoint)
    with Client(timeout_s=20) as client:
        assert client.streams().streams == [STREAM]
    with Client("tcp://127.0.0.1:1") as client:
        assert client.control == "tcp://127.0.0.1:1"


# ---------------------------------------------------------------------------------------------- numpy's numbers


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"box": np.array([1, 2, 30, 40], np.float32)}, {"box": BOX}),
        ({"box": tuple(np.array([1, 2, 30, 40], np.int64))}, {"box": BOX}),
        ({"box": [1, 2, 30, 40]}, {"box": BOX}),
        ({"points": [(np.int64(5), np.float16(6))]}, {"points": [(5, 6)]}),
        ({"points": np.array([[5, 6], [7, 8]], np.uint8)}, {"points": [(5, 6), (7, 8)]}),
        ({"points": [[5, 6]], "labels": np.array([0])}, {"points": [(5, 6)], "labels": [0]}),
        ({"points": [[5, 6]], "labels": [True]}, {"points": [(5, 6)], "labels": [1]}),
        ({"mask": MASK_HW}, {"mask": fields.Rle((48, 64), rle_encode(MASK_HW))}),
        ({"mask": MASK_HW.astype(np.uint8) * 255}, {"mask": fields.Rle((48, 64), rle_encode(MASK_HW))}),
        ({"mask": MASK_HW.astype(np.float32)}, {"mask": fields.Rle((48, 64), rle_encode(MASK_HW))}),
        ({"mask": MASK_HW.tolist()}, {"mask": fields.Rle((48, 64), rle_encode(MASK_HW))}),
        ({"box": BOX, "frame": np.int64(5), "expire_s": np.float32(2)}, {"box": BOX, "frame": 5, "expire_s": 2}),
        (
            {"box": BOX, "meta": {"a": np.float32(0.5), "b": np.arange(2)}},
            {"box": BOX, "meta": {"a": 0.5, "b": [0, 1]}},
        ),
    ],
)
def test_marks_may_be_numpy_s(
    daemon: FakeDaemon, client: Client, given: dict[str, Any], wanted: dict[str, Any]
) -> None:
    client.add("cam1", **given)
    assert daemon.asked.get(timeout=20).args == object_requests.ObjectsAdd(stream="cam1", **wanted)


def test_a_detector_s_boxes_may_be_too(daemon: FakeDaemon, client: Client) -> None:
    box: Any = np.array(BOX, np.float32)
    score: Any = np.float32(0.5)
    client.add_many("cam1", [Detection(box=box, score=score)])
    assert daemon.asked.get(timeout=20).args.detections == [Detection(box=BOX, score=0.5)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"box": np.zeros((1, 4))},
            r"box: an array of shape \(1, 4\) where x1, y1, x2, y2 are taken, shape \(4,\)",
        ),
        ({"box": [1, 2, 3]}, r"box: an array of shape \(3,\)"),
        ({"box": "1,2,3,4"}, "box: '1,2,3,4' where x1, y1, x2, y2 is taken, in numbers"),
        ({"points": (5, 6)}, r"points: an array of shape \(2,\) where a list of \(x, y\) is taken"),
        ({"points": [(5, 6), (7,)]}, r"points: \[\(5, 6\), \(7,\)\] where a list of \(x, y\) is taken"),
        ({"points": [("a", "b")]}, "points: .* in numbers"),
        ({"points": [(5, 6)], "labels": [[1]]}, r"labels: an array of shape \(1, 1\)"),
        ({"points": [(5, 6)], "labels": [0.5]}, r"labels\[0\]: 0.5 is neither 1"),
        ({"mask": np.zeros((3, 4, 3))}, r"mask: an array of shape \(3, 4, 3\) where one value for each pixel"),
        ({"mask": np.zeros((0, 4))}, r"mask: an array of shape \(0, 4\)"),
        ({"mask": object()}, "mask: <object .* in numbers"),
    ],
)
def test_wrong_shapes_are_refused_in_the_client_s_own_words(
    client: Client, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(errors.BadPrompt, match=said):
        client.add("cam1", **given)


def test_what_cannot_be_sent_is_refused(client: Client) -> None:
    with pytest.raises(errors.BadRequest, match=r"an? object cannot be sent: give text"):
        client.add("cam1", box=BOX, meta={"a": object()})


def test_masks_come_exactly_or_from_the_outline() -> None:
    shape = shape_of_mask(MASK_HW, tolerance_px=0)
    outlined = structs.replace(OBJECT, outline=shape.outline)
    exact = structs.replace(OBJECT, mask=fields.Rle((48, 64), rle_encode(MASK_HW)))
    for record in (outlined, exact):
        assert np.array_equal(mask_of(record, (64, 48)), MASK_HW)


def test_the_client_needs_no_torch_sam2_opencv_av_and_loads_numpy_only_for_masks() -> None:
    heavy = ("torch", "sam2", "cv2", "av", "PIL", "numpy")
    program = f"import sys, tracker.client; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
