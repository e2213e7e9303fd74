"""What was seen is found again: by object, by frame, by picture; waited for, and offered when it comes back."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import cv2
import msgspec
import numpy as np
import pytest
from PIL import Image

from helpers.clips import save_tiny_clip
from helpers.tracking import Message, Talk, configuration, serving, wait_until
from tracker.config import Config, LabelsConfig, LooksConfig
from tracker.daemon.looks.kept import LAST, PATIENCE, PER_OBJECT, KeptLooks, slot_for
from tracker.daemon.looks.look import LookTask, appearance_of
from tracker.daemon.looks.look import seen as seen_object
from tracker.engine.clip import Clip
from tracker.images import imaging
from tracker.images.looks import sharpness_of, thumbnail
from tracker.images.types import I420, Frame, Rgb
from tracker.images.video_writer import VideoWriter
from tracker.labels.crops import masked_crop
from tracker.masks.geometry import mask_of
from tracker.masks.types import ObjectMask
from tracker.registry.similar import Look, opened_for_reading

ORANGE, CYAN = (255, 200, 160), (200, 255, 255)  # bright enough for the fake engine
SIZE_WH = (160, 120)


def scene(colour: tuple[int, int, int], x: int = 30) -> np.ndarray:
    picture = np.full((SIZE_WH[1], SIZE_WH[0], 3), 40, np.uint8)
    cv2.rectangle(picture, (x, 30), (x + 29, 59), colour, -1)
    cv2.rectangle(picture, (100, 70), (129, 99), CYAN, -1)
    return picture


def film(path: Path, colour: tuple[int, int, int], hidden: range = range(0), frames: int = 60) -> Path:
    with VideoWriter(path, SIZE_WH, 20) as video:
        for t in range(frames):
            picture = scene(colour)
            if t in hidden:
                cv2.rectangle(picture, (30, 30), (59, 59), (40, 40, 40), -1)
            video.write(picture)
    return path


def configured(folder: Path, **streams: Path) -> Config:
    sources = {name: {"url": str(path), "loop": True} for name, path in streams.items()}
    looks = {"every_s": 0.1, "alike": 0.95}
    return configuration(streams=sources, looks=looks, persist={"dir": str(folder / "state"), "interval_s": 0.2})


@pytest.fixture
def config(tmp_path: Path) -> Config:
    a, b = film(tmp_path / "a.mp4", ORANGE), film(tmp_path / "b.mp4", ORANGE)
    return configured(tmp_path, a=a, b=b)


@pytest.fixture
def talk(config: Config) -> Iterator[Talk]:
    with serving(config) as talk:
        there(talk)
        yield talk


def there(talk: Talk) -> None:
    wait_until(lambda: all(s["frame"] is not None for s in talk.ask("streams.list")["streams"]))


def add(talk: Talk, stream: str, at: tuple[int, int], **more: Any) -> Message:
    return talk.ask("objects.add", stream=stream, points=[at], **more)


def hits(talk: Talk, **args: Any) -> list[tuple[str, int]]:
    return [(hit["stream"], hit["object"]) for hit in talk.ask("search.similar", **args)["hits"]]


SQUARE, CORNER = (45, 45), (115, 85)


@pytest.fixture
def seen(talk: Talk) -> Talk:
    """An orange object on both streams, and a cyan one on `a`."""
    add(talk, "a", SQUARE)
    add(talk, "a", CORNER, label="corner")
    add(talk, "b", SQUARE)
    wait_until(lambda: len(hits(talk, stream="a", box=[28, 28, 62, 62])) == 3)
    return talk


def test_an_object_is_found_on_the_other_stream(seen: Talk) -> None:
    found = seen.ask("search.similar", stream="a", object=1)
    best = found["hits"][0]
    assert (best["stream"], best["object"]) == ("b", 1)
    assert best["score"] > 0.97 > found["hits"][1]["score"]
    assert Image.open(io.BytesIO(best["thumbnail"])).size[0] <= 96
    assert best["box"] == pytest.approx([30, 30, 60, 60], abs=4)
    assert found["left_out"] == 0


def test_what_is_marked_on_a_frame_or_on_a_picture_is_found(seen: Talk) -> None:
    assert hits(seen, stream="a", box=[98, 68, 132, 102], limit=1) == [("a", 2)]
    file = io.BytesIO()
    Image.fromarray(scene(ORANGE)).save(file, "PNG")
    assert set(hits(seen, picture=file.getvalue(), box=[28, 28, 62, 62], limit=2)) == {("a", 1), ("b", 1)}


def test_on_takes_streams_that_are_or_were_there(seen: Talk) -> None:
    marks = {"stream": "a", "box": [28, 28, 62, 62]}
    refused = seen.refused("search.similar", **marks, on="never")
    assert refused == ("unknown_stream", "on: no stream is called 'never'; there: a, b")
    seen.ask("streams.remove", stream="b")
    assert hits(seen, **marks, on="b") == [("b", 1)]


def test_filters(seen: Talk) -> None:
    marks = {"stream": "a", "box": [28, 28, 62, 62]}
    assert hits(seen, **marks, on="b") == [("b", 1)]
    assert hits(seen, **marks, label="corner") == [("a", 2)]
    assert hits(seen, **marks, until=1.0) == []


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ({}, "bad_request", "either stream"),
        ({"stream": "a"}, "bad_request", "either object or marks"),
        ({"stream": "a", "object": 1, "box": [0, 0, 9, 9]}, "bad_request", "either object or marks"),
        ({"stream": "a", "object": 1, "frame": 1}, "bad_request", "leave frame"),
        ({"picture": b"x", "object": 1}, "bad_request", "leave frame and picture out"),
        ({"picture": b"no picture", "box": [0, 0, 9, 9]}, "bad_request", "is not a picture"),
        ({"stream": "a", "object": 77}, "unknown_object", "no look of 77"),
        ({"stream": "nowhere", "box": [0, 0, 9, 9]}, "unknown_stream", "nowhere"),
        ({"stream": "a", "box": [0, 0, 9, 9], "limit": 0}, "bad_request", "limit"),
    ],
)
def test_refusals(talk: Talk, args: dict[str, Any], code: str, text: str) -> None:
    found, message = talk.refused("search.similar", **args)
    assert found == code
    assert text in message


def test_a_large_picture_is_not_decoded(talk: Talk) -> None:
    file = io.BytesIO()
    Image.new("L", (4096, 4096)).save(file, "PNG")
    assert talk.refused("search.similar", picture=file.getvalue(), box=[0, 0, 9, 9])[0] == "too_large"


def test_a_watched_look_is_told_once_where_it_appears(talk: Talk) -> None:
    talk.subscribe("events/b/")
    file = io.BytesIO()
    Image.fromarray(scene(ORANGE)).save(file, "PNG")
    watched = talk.ask("watch.add", name="the box", picture=file.getvalue(), box=[28, 28, 62, 62], threshold=0.95)
    assert watched["durable"] is True
    add(talk, "b", CORNER)
    add(talk, "b", SQUARE)
    told = talk.receive_until(lambda m: m.get("event") == "looks_like")
    assert (told["object"], told["watch"], told["message"]) == (2, watched["watch"], "the box")
    assert told["score"] >= 0.95
    assert [w["name"] for w in talk.ask("watch.list")["watched"]] == ["the box"]
    assert talk.ask("watch.remove", watch=watched["watch"])["name"] == "the box"
    assert talk.refused("watch.remove", watch=9)[0] == "unknown_object"

    def told_so_far() -> int:
        events = talk.ask("history.list", stream="b")["events"]
        return [event["event"] for event in events].count("looks_like")

    wait_until(told_so_far)
    assert told_so_far() == 1
    # Not before: that one is told of the object as well.
    again = talk.ask("watch.add", name="the box", picture=file.getvalue(), box=[28, 28, 62, 62])
    assert again["watch"] > watched["watch"]


def test_looks_and_watched_looks_outlive_a_restart(config: Config) -> None:
    with serving(config) as talk:
        there(talk)
        add(talk, "a", SQUARE)
        talk.ask("watch.add", name="w", stream="a", box=[28, 28, 62, 62])
        wait_until(lambda: hits(talk, stream="a", box=[28, 28, 62, 62]) == [("a", 1)])
        talk.ask("objects.remove", stream="a", object=1)
    with serving(config) as talk:
        there(talk)
        assert hits(talk, stream="b", box=[28, 28, 62, 62]) == [("a", 1)]
        assert [w["name"] for w in talk.ask("watch.list")["watched"]] == ["w"]


def test_what_a_failing_disk_did_not_take_is_saved_when_it_is_back(config: Config, tmp_path: Path) -> None:
    state = tmp_path / "state"
    box = {"stream": "a", "box": [28, 28, 62, 62]}
    with serving(config) as talk:
        there(talk)
        talk.subscribe("events/a/")
        first = talk.ask("watch.add", name="first", **box)["watch"]
        shutil.rmtree(state)
        state.write_text("in its place")
        add(talk, "a", CORNER)
        talk.receive_until(lambda m: m["event"] == "persist_failed")
        assert talk.ask("watch.remove", watch=first)["durable"] is False
        assert talk.ask("watch.add", name="second", **box)["durable"] is False
        add(talk, "a", SQUARE)
        assert talk.refused("search.similar", **box)[0] == "unavailable"
        state.unlink()
        talk.receive_until(lambda m: m["event"] == "persist_recovered")
        wait_until(lambda: set(hits(talk, **box)) == {("a", 1), ("a", 2)}, timeout_s=60)
    with serving(config) as talk:
        there(talk)
        assert [w["name"] for w in talk.ask("watch.list")["watched"]] == ["second"]
        assert set(hits(talk, stream="b", box=[28, 28, 62, 62])) == {("a", 1), ("a", 2)}


def test_a_watched_look_that_was_removed_while_the_disk_failed_is_gone(config: Config, tmp_path: Path) -> None:
    state, away = tmp_path / "state", tmp_path / "away"
    box = {"stream": "a", "box": [28, 28, 62, 62]}
    with serving(config) as talk:
        there(talk)
        talk.subscribe("events/a/")
        first = talk.ask("watch.add", name="first", **box)["watch"]
        state.rename(away)
        state.write_text("in its place")
        add(talk, "a", CORNER)
        talk.receive_until(lambda m: m["event"] == "persist_failed")
        assert talk.ask("watch.remove", watch=first)["durable"] is False
        state.unlink()
        away.rename(state)
        talk.receive_until(lambda m: m["event"] == "persist_recovered")
    with serving(config) as talk:
        there(talk)
        assert talk.ask("watch.list")["watched"] == []


def test_a_folder_that_was_taken_away_and_came_back_is_searched_as_it_is(config: Config, tmp_path: Path) -> None:
    """Also where nobody searched meanwhile, which would have shown that it was gone."""
    box = {"stream": "a", "box": [28, 28, 62, 62]}
    with serving(config) as talk:
        there(talk)
        talk.subscribe("events/a/")
        add(talk, "a", CORNER)
        wait_until(lambda: hits(talk, **box) == [("a", 1)])
        (tmp_path / "state").rename(tmp_path / "away")
        talk.receive_until(lambda m: m["event"] == "persist_failed")
        talk.receive_until(lambda m: m["event"] == "persist_recovered")
        add(talk, "a", SQUARE)
        wait_until(lambda: ("a", 2) in hits(talk, **box))


def test_a_watched_object_has_a_picture(seen: Talk) -> None:
    watched = seen.ask("watch.add", name="it", stream="a", object=1)
    assert Image.open(io.BytesIO(watched["thumbnail"])).size[0] <= 96


def test_a_blurred_look_is_not_kept_and_a_sharper_one_takes_its_place() -> None:
    kept = KeptLooks(lambda _: [])
    offered = (1.0, 0.4, 1.2, 1.6, 0.7, 0.9)
    told = [(s, kept.take(a_look(), s)) for s in offered if kept.wants(("cam", 1), s)]
    assert told == [(1.0, 0), (1.2, None), (1.6, 0), (0.9, None)]


def test_what_is_blurred_for_good_is_taken_after_some_looks() -> None:
    kept = KeptLooks(lambda _: [])
    wanted = []
    for sharpness in (1.0, *[0.1] * 8):
        wanted.append(kept.wants(("cam", 1), sharpness))
        if wanted[-1]:
            kept.take(a_look(), sharpness)
    assert wanted == [True, *[False] * PATIENCE, True, True, True]


def a_look() -> Look:
    vector = np.array([1, 0], np.float32).tobytes()
    return Look("appearance", "m", "cam", 1, 0, 5, 0.0, (0, 0, 9, 9), None, b"", vector)


@pytest.mark.parametrize("texture", ["stripes", "noise", "plain"])
def test_a_blurred_object_is_less_sharp_at_any_size(texture: str) -> None:
    rng = np.random.default_rng(0)
    for side in (40, 400):
        mask = np.zeros((side, side), np.bool_)
        mask[side // 8 : -side // 8, side // 8 : -side // 8] = True
        coarse: dict[str, Any] = {
            "stripes": np.tile([60, 200], (16, 8)),
            "noise": rng.integers(0, 256, (16, 16)),
            "plain": 180,
        }
        inside = np.broadcast_to(coarse[texture], (16, 16)).astype(np.uint8)
        grey = cv2.resize(inside, (side, side), interpolation=cv2.INTER_NEAREST)
        picture = cv2.cvtColor(np.where(mask, grey, 40).astype(np.uint8), cv2.COLOR_GRAY2RGB)
        blurred = np.asarray(cv2.GaussianBlur(picture, (0, 0), side / 16), np.uint8)
        sharp = sharpness_of(np.asarray(picture, np.uint8), mask)
        assert sharpness_of(blurred, mask) < 0.5 * sharp


def test_motion_blur_on_a_film_is_left_out(tmp_path: Path) -> None:
    """What is kept is of frames on which the object was sharp."""
    blurred = range(30, 30 + PATIENCE)
    with VideoWriter(tmp_path / "film.mp4", SIZE_WH, 20) as video:
        for t in range(60):
            picture = scene(ORANGE)
            for stripe in range(32, 58, 8):
                cv2.rectangle(picture, (stripe, 30), (stripe + 3, 59), (200, 160, 120), -1)
            video.write(np.asarray(cv2.blur(picture, (15, 1)), np.uint8) if t in blurred else picture)
    config = configured(tmp_path, cam=tmp_path / "film.mp4")
    config = msgspec.structs.replace(config, looks=LooksConfig(every_s=0.001))
    with serving(config) as talk:
        talk.wait_for_frame(0)
        add(talk, "cam", SQUARE, frame=0)
        wait_until(lambda: talk.ask("objects.list")["objects"][0]["frame"] > 120, timeout_s=60)
        talk.ask("objects.remove", stream="cam", object=1)
    connection = apsw.Connection(str(tmp_path / "state" / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    frames = [frame % 60 for (frame,) in connection.execute("SELECT frame FROM looks")]
    connection.close()
    assert frames
    assert not set(frames) & set(blurred)


def test_who_was_lost_is_offered_when_something_alike_is_added(tmp_path: Path) -> None:
    path = film(tmp_path / "gone.mp4", ORANGE, hidden=range(20, 60))
    with serving(configured(tmp_path, cam=path)) as talk:
        talk.subscribe("events/cam/")
        talk.wait_for_frame(0)
        assert "maybe" not in add(talk, "cam", SQUARE, frame=0)
        talk.receive_until(lambda m: m.get("event") == "object_lost")
        wait_until(lambda: "maybe" in add(talk, "cam", SQUARE, frame=1))
        maybe = {one["object"]: one["score"] for one in add(talk, "cam", SQUARE, frame=1)["maybe"]}
        assert maybe[1] > 0.95
        assert "maybe" not in add(talk, "cam", CORNER, frame=1)


def test_without_a_folder_nothing_is_searched(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", ORANGE)
    with serving(configuration(streams={"a": {"url": str(path), "loop": True}})) as talk:
        talk.wait_for_frame(0)
        code, message = talk.refused("search.similar", stream="a", box=[28, 28, 62, 62])
        assert code == "unavailable"
        assert "persist.dir" in message


def test_the_most_different_looks_are_kept() -> None:
    vectors: dict[int, np.ndarray] = {}
    angles = [0, 0.01, *np.linspace(0.3, 1.5, 12)]
    for angle in angles:
        vector = np.array([np.cos(angle), np.sin(angle)], np.float32)
        slot = slot_for(vectors, vector)
        if slot is not None:
            vectors[slot] = vector
    kept = sorted(float(np.arctan2(v[1], v[0])) for v in vectors.values())
    assert len(kept) <= PER_OBJECT
    assert slot_for({0: vectors[0]}, vectors[0]) is None
    assert min(np.diff(kept)) > 0.1


# -------------------------------------------------------------------------------------------------------- by words


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_tiny_clip(folder)
    return folder


def with_clip(config: Config, folder: Path) -> Config:
    return msgspec.structs.replace(config, labels=LabelsConfig(model=str(folder), device="cpu"))


def by_text(talk: Talk, text: str, **filters: Any) -> Message:
    """What is found, once CLIP is there."""
    wait_until(lambda: talk.daemon._context.labeller.state == "ready", timeout_s=60)
    return talk.ask("search.similar", text=text, **filters)


def kinds(folder: Path) -> dict[tuple[str, str], int]:
    """Looks that are kept, by kind and model."""
    connection = apsw.Connection(str(folder / "state" / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    counted = dict[tuple[str, str], int](
        ((kind, model), count)
        for kind, model, count in connection.execute("SELECT kind, model, count(*) FROM looks GROUP BY kind, model")
    )
    connection.close()
    return counted


def test_a_text_finds_what_clip_says_is_nearest(config: Config, clip_folder: Path, tmp_path: Path) -> None:
    with serving(with_clip(config, clip_folder)) as talk:
        there(talk)
        add(talk, "a", SQUARE)
        add(talk, "a", CORNER, label="corner")
        wait_until(lambda: len(by_text(talk, "an orange box")["hits"]) == 2, timeout_s=60)
        found = by_text(talk, "an orange box")
        assert {hit["kind"] for hit in found["hits"]} == {"clip"}
        assert found["left_out"] == 0
        scores = [hit["score"] for hit in found["hits"]]
        assert scores == sorted(scores, reverse=True)
        (corner,) = by_text(talk, "an orange box", label="corner")["hits"]
        assert corner["object"] == 2
        crop = Image.open(io.BytesIO(corner["thumbnail"]))
        assert crop.size[0] <= 96
        assert by_text(talk, "an orange box", on="b")["hits"] == []
        assert hits(talk, stream="a", box=[28, 28, 62, 62])  # looks alone are compared with a look
        clip = Clip.load(LabelsConfig(model=str(clip_folder), device="cpu"))
        vectors = vectors_kept(tmp_path, clip.key)
        text_c = clip.text_vectors(["an orange box"])[0]
        best = {obj: max(float(v @ text_c) for o, v in vectors if o == obj) for obj in (1, 2)}
        found = {hit["object"]: hit["score"] for hit in by_text(talk, "an orange box")["hits"]}
        assert found == pytest.approx(best, abs=0.02)


def test_clip_is_shown_how_an_object_looked_last(config: Config, clip_folder: Path, tmp_path: Path) -> None:
    """Its last look adds nothing to those that are kept, so CLIP sees it when it is known to be the last."""
    with serving(with_clip(config, clip_folder)) as talk:
        there(talk)
        first = add(talk, "a", SQUARE)["frame"]
        wait_until(lambda: frames_kept(tmp_path, "clip"), timeout_s=60)
        wait_until(lambda: newest_look(talk, ("a", 1)) > first)
        talk.ask("objects.remove", stream="a", object=1)
        wait_until(lambda: LAST in frames_kept(tmp_path, "appearance"))
        last = frames_kept(tmp_path, "appearance")[LAST]
        assert last > first
        wait_until(lambda: last in frames_kept(tmp_path, "clip").values(), timeout_s=60)


def newest_look(talk: Talk, key: tuple[str, int]) -> int:
    """The frame of an object's newest look."""
    known = talk.daemon._context.looks._kept.find(key)
    return -1 if known is None or known.last is None else known.last.frame


def frames_kept(folder: Path, kind: str) -> dict[int, int]:
    """The frames of the looks of object 1, by slot."""
    connection = apsw.Connection(str(folder / "state" / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    found = connection.execute("SELECT slot, frame FROM looks WHERE kind = ? AND object = 1", (kind,))
    frames = dict[int, int](found)
    connection.close()
    return frames


def vectors_kept(folder: Path, model: str) -> list[tuple[int, np.ndarray]]:
    connection, looks = opened_for_reading(str(folder / "state" / "state.db"))
    kept = [(obj, look.vector_c) for obj in (1, 2) for look in looks.of_object("clip", model, "a", obj)]
    connection.close()
    return kept


def test_vectors_of_another_clip_are_counted_and_not_compared(
    config: Config, clip_folder: Path, tmp_path: Path
) -> None:
    with serving(with_clip(config, clip_folder)) as talk:
        there(talk)
        add(talk, "a", SQUARE)
        wait_until(lambda: by_text(talk, "box")["hits"], timeout_s=60)
        talk.ask("objects.remove", stream="a", object=1)
    save_tiny_clip(tmp_path / "other", seed=1)
    with serving(with_clip(config, tmp_path / "other")) as talk:
        there(talk)
        found = by_text(talk, "box")
        assert found["hits"] == []
        assert found["left_out"] in (1, 2)  # its first look, and its last where it was another one
        assert hits(talk, stream="b", box=[28, 28, 62, 62]) == [("a", 1)]
    counted = kinds(tmp_path)
    assert {kind for kind, _ in counted} == {"appearance", "clip"}
    assert len({model for _, model in counted}) == 2


@pytest.mark.parametrize(
    ("args", "code", "text"),
    [
        ({"text": "a box"}, "unavailable", "labels.model"),
        ({"text": "a box", "stream": "a"}, "bad_request", "leave stream"),
        ({"text": "a box", "box": [0, 0, 9, 9]}, "bad_request", "leave stream"),
        ({"text": ""}, "bad_request", "text"),
        ({"text": "a" * 257}, "bad_request", "text"),
        ({"text": "a\x1b[31m"}, "bad_request", "text"),
    ],
)
def test_texts_that_are_refused(talk: Talk, args: dict[str, Any], code: str, text: str) -> None:
    found, message = talk.refused("search.similar", **args)
    assert found == code
    assert text in message


def test_a_clip_that_is_not_there_is_said(config: Config, tmp_path: Path) -> None:
    with serving(with_clip(config, tmp_path / "none")) as talk:
        there(talk)
        wait_until(lambda: talk.daemon._context.labeller.state == "failed", timeout_s=60)
        code, message = talk.refused("search.similar", text="a box")
        assert code == "unavailable"
        assert "could not be loaded" in message


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ((20, 30), (40, 55)),
        ((0, 6), (0, 4)),
        ((40, 48), (60, 64)),
        ((23, 24), (0, 64)),
        ((0, 48), (30, 31)),
        ((0, 48), (0, 64)),
    ],
    ids=["inside", "a corner", "the other corner", "a wide one", "a tall one", "all of it"],
)
@pytest.mark.parametrize("kind", ["I420", "Rgb"])
def test_what_is_around_an_object_is_all_that_a_look_takes(
    kind: str, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    width, height = size_wh = 321, 241
    rng = np.random.default_rng(2)
    planes = rng.integers(0, 256, (height, width), np.uint8), *rng.integers(0, 256, (2, 121, 161), np.uint8)
    image = I420(*planes) if kind == "I420" else Rgb(rng.integers(0, 256, (height, width, 3), np.uint8))
    logits_hw = np.full((48, 64), -1, np.float32)
    logits_hw[slice(*rows), slice(*columns)] = 1
    frame = Frame("cam", 7, 0, None, 1.5, 0, None, image)
    task = LookTask(("cam", 1), None, frame, ObjectMask(logits_hw, 0.9, 5.0), np.ones(4, np.float32))

    pixels = seen_object(task)
    assert pixels is not None
    rgb_hwc, mask_hw = imaging.to_rgb(image), mask_of(logits_hw, size_wh)
    x, y, w, h = cv2.boundingRect(mask_hw.view(np.uint8))
    assert pixels.box_xyxy == (x, y, x + w, y + h)
    assert np.array_equal(pixels.crop_hwc, rgb_hwc[y : y + h, x : x + w])
    assert np.array_equal(pixels.part_hw, mask_hw[y : y + h, x : x + w])
    look = appearance_of(task, pixels, "nano")
    assert look.thumbnail == thumbnail(rgb_hwc, pixels.box_xyxy)
    for_clip_hwc = masked_crop(pixels.rgb_hwc, pixels.mask_hw, 64)
    of_whole_hwc = masked_crop(rgb_hwc, mask_hw, 64)
    assert for_clip_hwc is not None
    assert of_whole_hwc is not None
    assert np.array_equal(for_clip_hwc, of_whole_hwc)


def test_an_empty_mask_is_no_look() -> None:
    frame = Frame("cam", 7, 0, None, 1.5, 0, None, Rgb(np.zeros((6, 8, 3), np.uint8)))
    nothing = ObjectMask(np.full((48, 64), -1024, np.float32), 0.9, 5.0)
    assert seen_object(LookTask(("cam", 1), None, frame, nothing, np.ones(4, np.float32))) is None
