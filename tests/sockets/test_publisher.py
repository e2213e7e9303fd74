"""The publish socket with real subscribers: numbered, in order, computed only where wanted, waiting for nobody."""

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgpack
import pytest
import zmq

from helpers.waiting import PATIENCE_S, wait_until
from tracker.config import LimitsConfig
from tracker.protocol.messages import Event, Published
from tracker.sockets.publisher import MAX_SUBSCRIPTIONS, Publisher
from tracker.sockets.socket_server import DEFAULT_LIMITS

CAM1 = "events/cam1/"


@contextmanager
def publishing(
    endpoint: str = "tcp://127.0.0.1:*", send_hwm: int = 1000, limits: LimitsConfig = DEFAULT_LIMITS
) -> Iterator[Publisher]:
    publisher = Publisher(endpoint, send_hwm, "i1", limits)
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop()


@contextmanager
def subscribed(publisher: Publisher, *topics: str, receive_hwm: int = 1000) -> Iterator["zmq.Socket[bytes]"]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = receive_hwm
        socket.rcvtimeo = PATIENCE_S * 1000
        socket.connect(publisher.endpoint)
        for topic in topics:
            socket.subscribe(topic)
            wait_until(partial(publisher.wanted, topic))
        yield socket


def event(frame: int = 0, stream: str = "cam1", message: str = "") -> Event:
    return Event(event="overload", stream=stream, frame=frame, epoch=0, time=1.0, message=message)


def test_a_message_is_stamped_with_instance_number_and_time() -> None:
    with publishing() as publisher, subscribed(publisher, CAM1) as socket:
        before_ns = time.monotonic_ns()
        for frame in range(3):
            publisher.publish(CAM1, event(frame))
        for frame in range(3):
            topic, payload = socket.recv_multipart()
            message = msgpack.unpackb(payload)
            assert topic == b"events/cam1/"
            assert (message["v"], message["instance"], message["seq"], message["frame"]) == (1, "i1", frame, frame)
            assert before_ns <= message["published_mono_ns"] <= time.monotonic_ns()


def test_numbers_count_by_topic() -> None:
    with publishing() as publisher, subscribed(publisher, "events/") as socket:
        for stream in ("cam1", "cam1", "cam2", "cam1"):
            publisher.publish(f"events/{stream}/", event(stream=stream))
        received = [msgpack.unpackb(socket.recv_multipart()[1]) for _ in range(4)]
        assert [(message["stream"], message["seq"]) for message in received] == [
            ("cam1", 0),
            ("cam1", 1),
            ("cam2", 0),
            ("cam1", 2),
        ]


def test_topics_that_come_and_go_for_ever_take_no_room_and_no_number_comes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tracker.sockets.publisher.MAX_TOPICS", 4)
    names = ["cam", *(f"passing{number}" for number in range(20)), "cam", "other"] * 2
    with publishing() as publisher, subscribed(publisher, "events/") as socket:
        before: dict[str, int] = {}
        for name in names:
            publisher.publish(f"events/{name}/", event(stream=name))
            seq = msgpack.unpackb(socket.recv_multipart()[1])["seq"]
            assert seq > before.get(name, -1)
            before[name] = seq
        assert len(publisher._seqs) == 4


@pytest.mark.parametrize(
    ("subscription", "topic", "wanted"),
    [
        ("", "tracks/cam1/", True),
        ("tracks/", "tracks/cam1/", True),
        ("tracks/cam1/", "tracks/cam1/", True),
        ("tracks/cam1/", "tracks/cam10/", False),
        ("tracks/cam1", "tracks/cam10/", True),
        ("tracks/cam1/x", "tracks/cam1/", False),
        ("frames/cam1/320/", "frames/cam1/full/", False),
    ],
)
def test_wanted_is_what_a_prefix_says(subscription: str, topic: str, wanted: bool) -> None:
    with publishing() as publisher:
        assert not publisher.wanted(topic)
        with subscribed(publisher, subscription):
            assert publisher.wanted(topic) is wanted
        wait_until(lambda: not publisher.wanted(topic))


def test_a_topic_stays_wanted_until_its_last_subscriber_is_gone() -> None:
    with publishing() as publisher, subscribed(publisher, CAM1) as first:
        with subscribed(publisher, CAM1, "also/"):
            first.unsubscribe(CAM1)
            first.subscribe("and/")
            wait_until(lambda: publisher.wanted("and/"))
            assert publisher.wanted(CAM1)
        wait_until(lambda: not publisher.wanted(CAM1))


def test_nothing_is_computed_for_nobody() -> None:
    def never() -> Published:
        raise AssertionError

    with publishing() as publisher, subscribed(publisher, "tracks/cam10/", CAM1) as socket:
        publisher.publish("tracks/cam1/", never)
        publisher.publish(CAM1, event)
        assert socket.recv_multipart()[0] == CAM1.encode()


def test_images_are_a_third_part_given_or_made_when_needed() -> None:
    with publishing() as publisher, subscribed(publisher, "frames/") as socket:
        publisher.publish("frames/cam1/320/", event(), b"jpeg bytes")
        publisher.publish("frames/cam1/320/", event, lambda: b"made late")
        assert [socket.recv_multipart()[2] for _ in range(2)] == [b"jpeg bytes", b"made late"]


def test_a_message_that_cannot_be_made_is_logged_and_leaves_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Published:
        raise RuntimeError("no such thing")

    with publishing() as publisher, subscribed(publisher, CAM1) as socket:
        for payload in (event(), broken, event()):
            publisher.publish(CAM1, payload)
        assert [msgpack.unpackb(socket.recv_multipart()[1])["seq"] for _ in range(2)] == [0, 2]
    assert "a message of events/cam1/ could not be made" in caplog.text


def test_a_full_queue_drops_messages_and_their_numbers_show_it() -> None:
    def slowly() -> Event:
        time.sleep(0.2)
        return event()

    with publishing() as publisher, subscribed(publisher, CAM1) as socket:
        publisher.publish(CAM1, slowly)
        for _ in range(400):
            publisher.publish(CAM1, event())
        received = [msgpack.unpackb(socket.recv_multipart()[1])]
        while received[-1]["frame"] != 1:
            publisher.publish(CAM1, event(frame=1))
            received.append(msgpack.unpackb(socket.recv_multipart()[1]))
    seqs = [message["seq"] for message in received]
    assert seqs == sorted(set(seqs))
    assert seqs[-1] >= len(seqs)


def test_a_subscriber_that_does_not_read_holds_up_nobody() -> None:
    megabyte = "x" * 2**20
    with (
        publishing(send_hwm=4) as publisher,
        subscribed(publisher, CAM1, receive_hwm=1) as slow,
        subscribed(publisher, CAM1, "also/") as fast,  # by a topic of its own it is known to be connected
    ):
        for frame in range(60):
            publisher.publish(CAM1, event(frame, message=megabyte))
            assert msgpack.unpackb(fast.recv_multipart()[1])["frame"] == frame
        publisher.publish(CAM1, event(99))
        assert msgpack.unpackb(fast.recv_multipart()[1])["frame"] == 99
        kept = 0
        while slow.poll(300):
            slow.recv_multipart()
            kept += 1
        assert 1 <= kept < 60


def test_subscribers_come_go_and_send_nonsense() -> None:
    with publishing() as publisher, subscribed(publisher, CAM1) as steady:
        for _ in range(10):
            with subscribed(publisher, "events/"), zmq.Context() as context, context.socket(zmq.XSUB) as rude:
                rude.linger = 0
                rude.connect(publisher.endpoint)
                rude.send(b"\x07nonsense")
                rude.send(b"")
                rude.send(b"\x01" + b"\xff" * 5000)
        publisher.publish(CAM1, event(7))
        assert msgpack.unpackb(steady.recv_multipart()[1])["frame"] == 7


@pytest.mark.parametrize("limits", [LimitsConfig(), LimitsConfig(subscriptions=40)])
def test_who_subscribes_without_bound_is_shut_and_others_are_served(limits: LimitsConfig) -> None:
    with (
        publishing(limits=limits) as publisher,
        subscribed(publisher, CAM1) as steady,
        zmq.Context() as context,
        context.socket(zmq.SUB) as greedy,
    ):
        greedy.linger = 0
        greedy.setsockopt(zmq.RECONNECT_IVL, -1)
        greedy.connect(publisher.endpoint)
        monitor = greedy.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        for i in range(MAX_SUBSCRIPTIONS + 1):
            greedy.subscribe(f"events/cam1/{i}")
        assert monitor.poll(PATIENCE_S * 1000)
        greedy.disable_monitor()
        monitor.close()
        wait_until(lambda: publisher._prefixes == {CAM1.encode()})
        publisher.publish(CAM1, event(7))
        assert msgpack.unpackb(steady.recv_multipart()[1])["frame"] == 7


def test_a_flood_of_subscriptions_ends_for_who_sends_it() -> None:
    with publishing() as publisher, subscribed(publisher, CAM1) as steady:
        with zmq.Context() as context, context.socket(zmq.XSUB) as rude:
            rude.linger = 0
            rude.sndtimeo = PATIENCE_S * 1000
            rude.setsockopt(zmq.RECONNECT_IVL, -1)
            rude.connect(publisher.endpoint)
            monitor = rude.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            while not monitor.poll(0):
                with contextlib.suppress(zmq.Again):
                    for _ in range(100):
                        rude.send(b"\1abcdefgh", zmq.NOBLOCK)
                        rude.send(b"\0abcdefgh", zmq.NOBLOCK)
            rude.disable_monitor()
            monitor.close()
        publisher.publish(CAM1, event(7))
        assert msgpack.unpackb(steady.recv_multipart()[1])["frame"] == 7


def test_the_last_words_are_sent_before_the_socket_closes(tmp_path: Path) -> None:
    publisher = Publisher(f"ipc://{tmp_path}/publish.sock", 10, "i1")
    publisher.start()
    assert (tmp_path / "publish.sock").stat().st_mode & 0o777 == 0o660
    with subscribed(publisher, CAM1) as socket:
        publisher.publish(CAM1, event(frame=3))
        publisher.stop()
        assert msgpack.unpackb(socket.recv_multipart()[1])["frame"] == 3
    publisher.publish(CAM1, event())  # too late, and no harm
