"""The daemon from outside: commands in, tracks and events out, over real sockets, on real video."""

import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.fakes import BlobEngine
from helpers.tracking import SIZE_WH, Talk, blobs, configuration, serving, wait_until
from tracker.images.imaging import decode
from tracker.masks import geometry
from tracker.tracking import records

MOVING = [20, 30]  # on frame 0
RESTING = [120, 90]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("video") / "blobs.mp4")


@pytest.fixture
def talk(video: Path) -> Iterator[Talk]:
    """A daemon on a looped file at real pace: what a camera is like, without its faults."""
    with serving(configuration(streams={"cam": {"url": str(video), "loop": True}})) as talk:
        talk.wait_for_frame(0)
        yield talk


def only(talk: Talk) -> dict[str, Any]:
    (record,) = talk.ask("objects.list")["objects"]
    return record


class TestObjects:
    def test_a_point_gives_the_object_at_once(self, talk: Talk) -> None:
        added = talk.ask("objects.add", stream="cam", points=[RESTING], label="box", meta={"k": b"\0"})
        assert added["state"] == "visible"
        assert (added["object"], added["stream"], added["label"], added["meta"]) == (1, "cam", "box", {"k": b"\0"})
        assert added["box"] == pytest.approx([110, 80, 130, 100], abs=3)
        assert added["area"] == pytest.approx(400, rel=0.3)
        assert len(added["outline"]) == 1
        assert added["durable"] is False

    def test_a_box_too(self, talk: Talk) -> None:
        added = talk.ask("objects.add", stream="cam", box=[105, 75, 135, 105])
        assert added["box"] == pytest.approx([110, 80, 130, 100], abs=3)

    def test_ids_count_up_and_never_come_back(self, talk: Talk) -> None:
        def add(**more: Any) -> int:
            return int(talk.ask("objects.add", stream="cam", points=[RESTING], **more)["object"])

        assert [add(), add(object=7), add()] == [1, 7, 8]
        assert talk.ask("objects.remove", stream="cam", object=8) == {"removed": [8], "durable": False}
        assert add() == 9
        for taken in (7, 8):
            code, message = talk.refused("objects.add", stream="cam", points=[RESTING], object=taken)
            assert code == "already_exists"
            assert str(taken) in message

    def test_update_changes_what_is_given(self, talk: Talk) -> None:
        talk.ask("objects.add", stream="cam", points=[RESTING], label="a", meta={"x": 1})
        assert talk.ask("objects.update", stream="cam", object=1, label="b")["meta"] == {"x": 1}
        assert talk.ask("objects.update", stream="cam", object=1, label=None, meta={})["label"] is None
        assert (only(talk)["label"], only(talk)["meta"]) == (None, {})

    def test_remove_all(self, talk: Talk) -> None:
        for _ in range(3):
            talk.ask("objects.add", stream="cam", points=[RESTING])
        assert talk.ask("objects.remove", stream="cam", all=True) == {"removed": [1, 2, 3], "durable": False}
        assert talk.ask("objects.list") == {"objects": []}

    def test_refine_moves_the_object(self, talk: Talk) -> None:
        talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
        refined = talk.ask("objects.refine", stream="cam", object=1, points=[RESTING])
        assert refined["box"] == pytest.approx([110, 80, 130, 100], abs=3)

    def test_what_is_lost_expires(self, tmp_path: Path) -> None:
        url = str(blobs(tmp_path / "gone.mp4", frames=600, hidden=range(20, 600)))
        with serving(configuration(streams={"cam": {"url": url}})) as talk:
            talk.subscribe("events/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0, expire_s=0.2)
            event = talk.receive_until(lambda m: m["event"] == "object_lost")
            assert event["object"] == 1
            assert event["frame"] >= 20  # later where a busy machine leaves frames out
            assert talk.receive_until(lambda m: m["event"] == "object_expired")["object"] == 1
            assert talk.ask("objects.list") == {"objects": []}

    def test_what_is_corrected_in_time_does_not_expire(self, tmp_path: Path) -> None:
        url = str(blobs(tmp_path / "gone.mp4", frames=600, hidden=range(10, 600)))
        with serving(configuration(streams={"cam": {"url": url}})) as talk:
            talk.subscribe("events/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0, expire_s=3)
            talk.receive_until(lambda m: m["event"] == "object_lost")
            talk.ask("streams.pause", stream="cam")
            talk.ask("objects.refine", stream="cam", object=1, points=[RESTING])
            told = [talk.receive_until(lambda m: m.get("object") == 1)["event"] for _ in range(2)]
            assert told == ["object_refined", "object_found"]
            time.sleep(3.3)
            assert only(talk)["state"] == "visible"

    def test_the_largest_id_does_not_use_up_all_others(self, talk: Talk) -> None:
        for wanted, given in ((2**31 - 1, 2**31 - 1), (2, 2), (None, 1), (None, 3)):
            more = {} if wanted is None else {"object": wanted}
            assert talk.ask("objects.add", stream="cam", points=[RESTING], **more)["object"] == given


class TestStreamsThatAreGone:
    """A stream refers to itself, so that it goes when Python happens to look for such things; its frames do not."""

    def test_a_removed_one_keeps_no_frames(self, talk: Talk) -> None:
        buffer = talk.daemon._table.stream("cam").source.buffer
        wait_until(lambda: len(buffer) > 3)
        talk.ask("streams.remove", stream="cam")
        wait_until(lambda: len(buffer) <= 1)  # one may have been on its way

    def test_one_that_was_opened_anew_neither(self, video: Path) -> None:
        before, after = (
            configuration(streams={"cam": {"url": str(video), "loop": True, "buffer": {"seconds": seconds}}})
            for seconds in (60, 50)
        )
        with serving(before, read_config=lambda: after) as talk:
            buffer = talk.daemon._table.stream("cam").source.buffer
            wait_until(lambda: len(buffer) > 3)
            talk.daemon.reload()
            wait_until(lambda: len(buffer) <= 1)


class TestDetections:
    def test_new_ones_are_added_and_known_ones_matched(self, talk: Talk) -> None:
        known = talk.ask("objects.add", stream="cam", points=[RESTING], frame=0)["object"]
        detections = [
            {"box": [10, 20, 30, 40], "label": "walker", "score": 0.9, "meta": {"class": 3}},
            {"box": [112, 82, 131, 99], "label": "rest"},
            {"box": [60, 60, 80, 80], "label": "nothing there"},
        ]
        result = talk.ask("objects.add_many", stream="cam", frame=0, detections=detections)
        moving, resting, nothing = result["objects"]
        assert (resting["object"], resting["added"]) == (known, False)
        assert resting["iou"] == pytest.approx(1)
        assert moving == {"object": known + 1, "added": True, "iou": None}
        assert nothing == {"object": None, "added": False, "iou": None}
        records = {record["object"]: record for record in talk.ask("objects.list")["objects"]}
        assert (records[moving["object"]]["label"], records[moving["object"]]["meta"]) == ("walker", {"class": 3})
        again = talk.ask("objects.add_many", stream="cam", frame=0, detections=detections[:2])
        assert [match["added"] for match in again["objects"]] == [False, False]

    @pytest.mark.parametrize(
        ("detections", "code", "says"),
        [
            ([], "bad_request", "detections"),
            ([{"box": [1, 1, 5, 5], "score": 2.0}], "bad_request", "score"),
        ],
    )
    def test_one_bad_detection_refuses_all(self, talk: Talk, detections: Any, code: str, says: str) -> None:
        found, message = talk.refused("objects.add_many", stream="cam", detections=detections)
        assert (found, says in message) == (code, True), message
        assert talk.ask("objects.list") == {"objects": []}

    def test_a_box_out_of_the_picture_is_skipped_and_the_others_are_taken(self, talk: Talk) -> None:
        boxes = [[170, 5, 190, 9], [105, 60, 135, 150], [9, 9, 5, 5], [5, 5, 5.5, 9]]
        result = talk.ask("objects.add_many", stream="cam", detections=[{"box": box} for box in boxes])
        outside, clipped, empty, thin = result["objects"]
        assert clipped == {"object": 1, "added": True, "iou": None}
        for match, says in ((outside, "[0].box: [170, 5, 190, 9] is outside"), (empty, "[2]"), (thin, "1 × 1")):
            assert (match["object"], match["added"], match["iou"]) == (None, False, None)
            assert says in match["refused"]


REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("objects.add", {"stream": "nope", "points": [RESTING]}, "unknown_stream", "cam"),
    ("objects.add", {"stream": "cam"}, "bad_prompt", "points, box or mask"),
    ("objects.add", {"stream": "cam", "points": [[500, 3]]}, "bad_prompt", "160 × 120"),
    ("objects.add", {"stream": "cam", "points": [[math.nan, 3]]}, "bad_prompt", "points"),
    ("objects.add", {"stream": "cam", "points": [RESTING], "labels": [1, 0]}, "bad_prompt", "labels"),
    ("objects.add", {"stream": "cam", "points": [RESTING], "labels": [0]}, "bad_prompt", "off the object"),
    ("objects.add", {"stream": "cam", "box": [50, 50, 40, 60]}, "bad_prompt", "box"),
    ("objects.add", {"stream": "cam", "points": [[5, 115]]}, "no_object", "empty mask"),
    ("objects.add", {"stream": "cam", "points": [RESTING], "frame": 99999}, "frame_gone", "there:"),
    ("objects.add", {"stream": "cam", "points": [RESTING], "colour": "red"}, "bad_request", "colour"),
    ("objects.add", {"stream": "cam", "points": [RESTING], "meta": {"x": "y" * 5000}}, "too_large", "4096"),
    ("objects.refine", {"stream": "cam", "object": 99, "points": [RESTING]}, "unknown_object", "99"),
    ("objects.refine", {"stream": "cam", "object": 1, "points": [[5, 115]]}, "no_object", "empty mask"),
    ("objects.update", {"stream": "cam", "object": 99, "label": "x"}, "unknown_object", "99"),
    ("objects.remove", {"stream": "cam"}, "bad_request", "all"),
    ("frames.get", {"stream": "cam", "frame": 99999}, "frame_gone", "there:"),
    ("streams.add", {"stream": "cam", "url": "/etc/passwd"}, "already_exists", "cam"),
    ("streams.add", {"stream": "two", "url": "/etc/passwd"}, "forbidden", "allow_sources"),
    ("streams.pause", {"stream": "two"}, "unknown_stream", "cam"),
    ("objects.fly", {}, "unknown_op", "did you mean"),
]


@pytest.mark.parametrize(
    ("op", "args", "code", "says"), REFUSED, ids=[f"{op}-{code}" for op, _, code, _ in REFUSED]
)
def test_refusals_say_what_is_wrong_and_change_nothing(
    talk: Talk, op: str, args: dict[str, Any], code: str, says: str
) -> None:
    talk.ask("objects.add", stream="cam", points=[RESTING])
    before = talk.ask("objects.list")["objects"][0]
    found_code, message = talk.refused(op, **args)
    assert (found_code, says in message) == (code, True), message
    (after,) = talk.ask("objects.list")["objects"]
    for changing in ("frame", "age"):
        assert after.pop(changing) >= before.pop(changing)
    assert after == before


WRONG_SOURCES: list[tuple[dict[str, Any], str]] = [
    ({"url": "rtsp://127.0.0.1/live", "loop": True}, "loop: is for files"),
    ({"url": "rtsp://127.0.0.1/live", "pace": "all"}, "pace: all is for files"),
    ({"url": "rtsp://127.0.0.1:99999/live"}, "url: its port is beyond 65535"),
    ({"url": "rtsp://127.0.0.1/live", "size": [99999, 99999]}, "size: has 99999x99999 pixels"),
]


def test_a_source_that_cannot_be_right_is_refused_as_in_a_configuration() -> None:
    with serving(configuration(control={"allow_sources": ["rtsp://127.0.0.1:*/**"]})) as talk:
        for args, says in WRONG_SOURCES:
            code, message = talk.refused("streams.add", stream="cam", **args)
            assert (code, says in message) == ("bad_request", True), message
        assert talk.ask("streams.list")["streams"] == []


class TestPublished:
    def test_every_frame_of_a_file_once_and_in_order(self, video: Path) -> None:
        with serving(configuration(control={"allow_sources": [str(video)]})) as talk:
            talk.subscribe("tracks/cam/")
            talk.ask("streams.add", stream="cam", url=str(video), pace="all")
            messages = [talk.receive()[1] for _ in range(50)]
        for name in ("frame", "step", "seq"):
            numbers = [message[name] for message in messages]
            assert numbers == list(range(50)), name
        assert {m["dropped"] for m in messages} == {0}
        assert {tuple(m["size"]) for m in messages} == {SIZE_WH}
        assert len({m["instance"] for m in messages}) == 1

    def test_the_record_follows_the_object(self, video: Path) -> None:
        with serving(configuration(streams={"cam": {"url": str(video)}})) as talk:
            talk.subscribe("tracks/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
            talk.receive_until(lambda m: m["objects"] and m["objects"][0]["state"] == "visible")
            for _ in range(20):
                _, message = talk.receive()
                (record,) = message["objects"]
                x1, y1, x2, y2 = record["box"]
                assert record["state"] == "visible"
                assert [x1, y1, x2, y2] == pytest.approx(
                    [10 + message["frame"], 20, 30 + message["frame"], 40], abs=3
                )

    def test_lost_and_found(self, tmp_path: Path) -> None:
        url = str(blobs(tmp_path / "hide.mp4", hidden=range(20, 30)))
        with serving(configuration(streams={"cam": {"url": url}})) as talk:
            talk.subscribe("events/cam/")
            talk.subscribe("tracks/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[RESTING], frame=0)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
            message = talk.receive_until(
                lambda m: [o["state"] for o in m.get("objects", [])] == ["visible", "lost"]
            )
            assert 20 <= message["frame"] < 30
            lost = message["objects"][1]
            assert (lost["object"], lost["box"], lost["area"], lost["outline"]) == (2, None, 0, [])
            assert lost["presence"] < 0
            found = talk.receive_until(lambda m: m.get("event") == "object_found")
            assert found["object"] == 2
            assert found["frame"] >= 30

    def test_dropped_counts_are_exact(self, talk: Talk) -> None:
        talk.subscribe("tracks/cam/")
        slow = BlobEngine.encode

        def encode(self: BlobEngine, images: Any) -> Any:
            time.sleep(0.12)
            return slow(self, images)

        talk.ask("objects.add", stream="cam", points=[RESTING])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BlobEngine, "encode", encode)
            messages = [talk.receive()[1] for _ in range(12)]
        for before, after in itertools.pairwise(messages):
            gap = after["frame"] - before["frame"] - 1
            assert after["dropped"] - before["dropped"] == gap
        assert messages[-1]["dropped"] > messages[0]["dropped"]

    def test_masks_on_request_of_the_configuration(self, video: Path) -> None:
        config = configuration(publish={"masks": "rle"}, streams={"cam": {"url": str(video), "loop": True}})
        with serving(config) as talk:
            talk.subscribe("tracks/cam/")
            talk.wait_for_frame(0)
            assert talk.ask("objects.add", stream="cam", points=[RESTING])["mask"]["size"] == [120, 160]
            record = talk.receive_until(lambda m: m["objects"])["objects"][0]
            assert isinstance(record["mask"]["counts"], bytes)

    @pytest.mark.parametrize(("width", "size_wh"), [("320", SIZE_WH), ("full", SIZE_WH)])
    def test_pictures(self, talk: Talk, width: str, size_wh: tuple[int, int]) -> None:
        talk.subscribe(f"frames/cam/{width}/")
        topic, message = talk.receive()
        assert topic == f"frames/cam/{width}/"
        assert (message["size"], message["format"]) == (list(SIZE_WH), "jpeg")
        h, w, _ = decode(talk.image).shape
        assert (w, h) == size_wh

    def test_status_once_a_second(self, talk: Talk) -> None:
        talk.subscribe("status/")
        message = talk.receive()[1]
        assert [stream["stream"] for stream in message["streams"]] == ["cam"]
        assert message["memory"]["device"] == "cpu"

    def test_when_the_model_was_at_a_frame(self, talk: Talk) -> None:
        talk.subscribe("tracks/cam/")
        assert talk.receive()[1]["model_mono_ns"] is None
        talk.ask("objects.add", stream="cam", points=[RESTING])
        message = talk.receive_until(lambda m: m["model_mono_ns"])
        moments = [message["mono_ns"], *message["model_mono_ns"], message["published_mono_ns"]]
        assert moments == sorted(moments)

    def test_what_the_models_steps_took(self, talk: Talk) -> None:
        talk.ask("objects.add", stream="cam", points=[RESTING])
        talk.subscribe("status/")
        steps = talk.receive_until(lambda m: m["steps"]["count"])["steps"]
        assert 0 < steps["p50_ms"] <= steps["p99_ms"] <= steps["max_ms"]
        assert steps["cpu_ms"] > 0

    @pytest.mark.usefixtures("talk")
    def test_the_system_knows_the_threads_by_name(self) -> None:
        names = {(task / "comm").read_text().strip() for task in Path("/proc/self/task").iterdir()}
        assert names >= {"delivery", "control", "publish", "source-cam"}

    def test_nothing_is_computed_for_nobody(self, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
        outlines: list[bool] = []
        real = geometry.shapes_of

        def shapes_of(*args: Any, outline: bool, **kwargs: Any) -> Any:
            outlines.append(outline)
            return real(*args, outline=outline, **kwargs)

        talk.ask("objects.add", stream="cam", points=[RESTING])
        monkeypatch.setattr(records, "shapes_of", shapes_of)
        wait_until(lambda: len(outlines) > 5)
        assert not any(outlines)


class TestPast:
    def test_a_click_on_an_old_frame_is_answered_there_and_caught_up(self, talk: Talk) -> None:
        talk.subscribe("events/cam/")
        talk.wait_for_frame(30)
        added = talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
        assert added["frame"] == 0
        assert added["box"] == pytest.approx([10, 20, 30, 40], abs=3)
        event = talk.receive_until(lambda m: m["event"] == "object_caught_up")
        assert event["frame"] >= 30

        def is_where_it_is_now() -> bool:
            """It jumps back where the film begins again, and is lost for a moment."""
            record = only(talk)
            return record["box"] is not None and abs(record["box"][0] - (10 + record["frame"] % 60)) <= 8

        wait_until(is_where_it_is_now)

    def test_by_time(self, talk: Talk) -> None:
        talk.wait_for_frame(20)
        at = talk.ask("frames.get", stream="cam", frame=7)["time"]
        assert talk.ask("objects.add", stream="cam", points=[RESTING], time=at + 0.001)["frame"] == 7

    def test_a_correction_of_an_old_frame_replaces_what_came_after(self, video: Path) -> None:
        with serving(configuration(streams={"cam": {"url": str(video), "pace": "all"}})) as talk:
            talk.subscribe("events/cam/")
            talk.wait_for_frame(59)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
            wait_until(lambda: only(talk)["frame"] == 59)
            talk.ask("objects.refine", stream="cam", object=1, points=[RESTING], frame=40)
            talk.receive_until(lambda m: m["event"] == "object_refined")
            assert talk.receive_until(lambda m: m["event"] == "object_caught_up")["frame"] == 59
            assert only(talk)["box"] == pytest.approx([110, 80, 130, 100], abs=3)

    def test_what_is_too_old_to_correct_is_refused(self, video: Path) -> None:
        with serving(configuration(streams={"cam": {"url": str(video), "pace": "all"}})) as talk:
            talk.wait_for_frame(59)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
            wait_until(lambda: only(talk)["frame"] == 59)
            code, message = talk.refused("objects.refine", stream="cam", object=1, points=[RESTING], frame=5)
            assert code == "frame_gone"
            assert "engine.history_frames" in message

    def test_a_correction_of_what_was_seen_last_costs_no_encoding(self, video: Path) -> None:
        """One that names no frame is about the newest whose masks were published, which the model has seen."""
        engine = BlobEngine()
        with serving(configuration(streams={"cam": {"url": str(video)}}), engine) as talk:
            wait_until(lambda: talk.ask("streams.list")["streams"][0]["state"] == "ended")
            talk.subscribe("events/")
            talk.ask("objects.add", stream="cam", frame=0, points=[RESTING])
            last = talk.receive_until(lambda m: m["event"] == "object_caught_up")["frame"]
            before = len(engine.encoded)
            corrected = talk.ask("objects.refine", stream="cam", object=1, points=[RESTING])
            assert corrected["frame"] == last == 59
            assert len(engine.encoded) == before


class TestFrames:
    @pytest.mark.parametrize(("format", "magic"), [("jpeg", b"\xff\xd8"), ("png", b"\x89PNG")])
    def test_any_buffered_frame_as_a_picture(self, talk: Talk, format: str, magic: bytes) -> None:
        image = talk.ask("frames.get", stream="cam", frame=0, format=format)
        assert image["data"].startswith(magic)
        assert (image["frame"], image["size"], image["format"]) == (0, list(SIZE_WH), format)

    def test_with_the_objects_drawn_on_it(self, talk: Talk) -> None:
        talk.ask("objects.add", stream="cam", points=[RESTING])
        wait_until(lambda: only(talk)["age"] > 0)
        image = talk.ask("frames.get", stream="cam", format="png", overlay=True)
        pixel = decode(image["data"])[90, 120]
        assert int(pixel.max()) - int(pixel.min()) > 20  # tinted: the square itself is white

    def test_with_what_was_shown_on_a_frame_that_is_past(self, talk: Talk) -> None:
        talk.ask("objects.add", stream="cam", points=[RESTING])
        wait_until(lambda: only(talk)["age"] > 3)
        talk.ask("streams.pause", stream="cam")
        newest = talk.ask("frames.get", stream="cam", format="png", overlay=True)
        past = talk.ask("frames.get", stream="cam", format="png", overlay=True, frame=newest["frame"] - 2)
        pixel = decode(past["data"])[90, 120]
        assert int(pixel.max()) - int(pixel.min()) > 20

    def test_a_frame_that_is_looked_at_can_be_prompted_and_looked_at_again(self, video: Path) -> None:
        """However long ago it was shown: it is pinned. What is drawn then is what the prompt found on it."""
        stream = {"url": str(video), "loop": True, "buffer": {"seconds": 0.2}}
        with serving(configuration(streams={"cam": stream}), BlobEngine(history_frames=4)) as talk:
            talk.wait_for_frame(10)
            shown = talk.ask("frames.get", stream="cam", format="png", pin_s=120)
            talk.wait_for_frame(shown["frame"] + 40)
            assert talk.refused("frames.get", stream="cam", frame=shown["frame"] - 1)[0] == "frame_gone"
            talk.subscribe("events/cam/")
            added = talk.ask("objects.add", stream="cam", points=[RESTING], frame=shown["frame"])
            assert added["frame"] == shown["frame"]
            talk.receive_until(lambda m: m["event"] == "object_caught_up")
            talk.wait_for_frame(shown["frame"] + 60)
            drawn = talk.ask("frames.get", stream="cam", format="png", overlay=True, frame=shown["frame"])
            pixel = decode(drawn["data"])[90, 120]
            assert int(pixel.max()) - int(pixel.min()) > 20
            assert drawn["data"] != shown["data"]

    @pytest.mark.parametrize("pin_s", [0, -1, 120.5])
    def test_a_pin_has_an_end(self, talk: Talk, pin_s: float) -> None:
        assert talk.refused("frames.get", stream="cam", pin_s=pin_s)[0] == "bad_request"


class TestStreams:
    def test_add_pause_resume_remove(self, video: Path) -> None:
        url = str(video)
        config = configuration(control={"allow_sources": [url]}, streams={"cam": {"url": url, "loop": True}})
        with serving(config) as other:
            other.subscribe("events/two/")
            assert other.ask("streams.add", stream="two", url=url, loop=True)["stream"] == "two"
            other.receive_until(lambda m: m["event"] == "stream_live")
            assert other.ask("streams.pause", stream="two")["state"] == "paused"
            other.ask("streams.resume", stream="two")
            other.receive_until(lambda m: m["event"] == "stream_live")
            other.ask("objects.add", stream="two", points=[RESTING])
            assert other.ask("streams.remove", stream="two")["objects"] == 1
            assert other.refused("objects.list", stream="two")[0] == "unknown_stream"
            assert other.ask("objects.list") == {"objects": []}

    def test_a_stream_that_comes_back_goes_on_counting(self, video: Path) -> None:
        with serving(configuration(control={"allow_sources": [str(video)]})) as talk:
            talk.subscribe("tracks/cam/")
            talk.ask("streams.add", stream="cam", url=str(video))
            talk.wait_for_frame(3)
            assert talk.ask("objects.add", stream="cam", points=[RESTING])["object"] == 1
            talk.ask("streams.remove", stream="cam")
            talk.ask("streams.add", stream="cam", url=str(video))
            message = talk.receive_until(lambda m: m["step"] == 0 and m["frame"] > 0)
            assert message["frame"] > 3
            assert message["epoch"] == 1
            assert message["dropped"] < 5
            assert talk.ask("objects.add", stream="cam", points=[RESTING])["object"] == 2

    @pytest.mark.parametrize("content", [b"", b"hello, this is no video", None])
    def test_a_broken_source_fails_alone(self, video: Path, tmp_path: Path, content: bytes | None) -> None:
        broken = tmp_path / "broken.mp4"
        if content is not None:
            broken.write_bytes(content)
        streams = {"bad": {"url": str(broken)}, "cam": {"url": str(video), "loop": True}}
        with serving(configuration(streams=streams)) as talk:
            wait_until(lambda: talk.ask("streams.list")["streams"][0]["state"] == "failed")
            assert "broken.mp4" in talk.ask("streams.list")["streams"][0]["error"]
            wait_until(lambda: talk.ask("streams.list")["streams"][1]["state"] == "live")
            assert talk.refused("objects.add", stream="bad", points=[[1, 1]])[0] == "no_frame"
            assert talk.ask("objects.add", stream="cam", points=[RESTING])["state"] == "visible"


def test_eight_streams_share_the_engine_fairly(video: Path) -> None:
    names = [f"cam{i}" for i in range(8)]
    with serving(configuration(streams={name: {"url": str(video), "loop": True} for name in names})) as talk:
        wait_until(lambda: all(stream["decoded"] for stream in talk.ask("streams.list")["streams"]))
        for name in names:
            talk.ask("objects.add", stream=name, points=[RESTING])
        before = {stream["stream"]: stream["step"] for stream in talk.ask("streams.list")["streams"]}
        wait_until(lambda: min(s["step"] for s in talk.ask("streams.list")["streams"]) > max(before.values()) + 20)
        streams = talk.ask("streams.list")["streams"]
        steps = [stream["step"] - before[stream["stream"]] for stream in streams]
        assert max(steps) < 2 * min(steps)
        for stream in streams:  # what was decoded was processed, dropped, or still waits
            assert 0 <= stream["decoded"] - (stream["step"] + 1) - stream["dropped"] <= 5
        assert {record["state"] for record in talk.ask("objects.list")["objects"]} == {"visible"}


def test_too_many_objects_are_refused(video: Path) -> None:
    config = configuration(engine={"max_objects": 2}, streams={"cam": {"url": str(video), "loop": True}})
    with serving(config) as talk:
        talk.wait_for_frame(0)
        for _ in range(2):
            talk.ask("objects.add", stream="cam", points=[RESTING])
        assert talk.ask("server.info")["limits"]["objects_free"] == 0
        code, message = talk.refused("objects.add", stream="cam", points=[RESTING])
        assert (code, "max_objects" in message) == ("at_capacity", True)


def test_too_many_streams_are_refused(video: Path) -> None:
    config = configuration(control={"allow_sources": [str(video)]}, limits={"streams": 1})
    with serving(config) as talk:
        talk.ask("streams.add", stream="b", url=str(video))
        code, message = talk.refused("streams.add", stream="c", url=str(video))
        assert (code, "limits.streams" in message) == ("at_capacity", True)
        talk.ask("streams.remove", stream="b")
        talk.ask("streams.add", stream="c", url=str(video))


def test_what_would_push_a_stream_under_its_min_fps_is_refused(video: Path) -> None:
    engine = BlobEngine()
    for objects in (1, 4):  # 20 ms for each object: 10 frames/s are left with five of them
        engine.cost.observe(objects, 0.02 * objects)
    streams = {"cam": {"url": str(video), "loop": True, "min_fps": 10}, "two": {"url": str(video), "loop": True}}
    with serving(configuration(streams=streams), engine) as talk:
        wait_until(lambda: all(stream["decoded"] for stream in talk.ask("streams.list")["streams"]))
        assert talk.ask("server.info")["limits"]["objects_free"] == 5
        for _ in range(4):
            talk.ask("objects.add", stream="cam", points=[RESTING])
        talk.ask("objects.add", stream="two", points=[RESTING])
        for stream in ("cam", "two"):  # what is added beside it slows it as well
            code, message = talk.refused("objects.add", stream=stream, points=[RESTING])
            assert (code, "'cam' under its min_fps of 10" in message) == ("at_capacity", True), message
        assert talk.ask("server.info")["limits"]["objects_free"] == 0


def test_stopping_is_told(talk: Talk) -> None:
    talk.subscribe("events/cam/")
    talk.daemon.stop()
    assert talk.receive_until(lambda m: m["event"] == "daemon_stopping")["stream"] == "cam"
