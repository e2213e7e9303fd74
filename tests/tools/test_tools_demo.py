"""The demo's scene and its judge: figures that a reader can work out by hand."""

import json
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image as Pil

from helpers.leaks import ROOT
from pond import scene
from pond.__main__ import CARS, Heard, cars, last_showing
from pond.report import HIDDEN_PX, contact_sheet, ending, judge
from tracker.client.messages import Message
from tracker.masks.geometry import shape_of_mask
from tracker.protocol.fields import ObjectState
from tracker.protocol.messages import Event, Tracks
from tracker.protocol.records import ObjectRecord

SIZE_WH = (64, 48)
LEFT = (slice(10, 20), slice(10, 30))  # 200 px
RIGHT = (slice(10, 20), slice(20, 40))  # overlaps LEFT by 100 px: IoU 1 / 3
TINY = (slice(0, 7), slice(0, 7))  # 49 px: hidden
NOWHERE = (slice(0, 0), slice(0, 0))


def mask(where: tuple[slice, slice]) -> np.ndarray:
    mask_hw = np.zeros(SIZE_WH[::-1], bool)
    mask_hw[where] = True
    return mask_hw


def published(frame: int, where: tuple[slice, slice]) -> Tracks:
    shape = shape_of_mask(mask(where), tolerance_px=0)
    state: ObjectState = "visible" if shape.area else "lost"
    record = ObjectRecord(object=7, state=state, area=shape.area, box=shape.box_xyxy, outline=shape.outline)
    return Tracks(
        stream="pond", frame=frame, step=frame, epoch=0, pts=None, time=0.0, camera_time=None, mono_ns=0,
        size=SIZE_WH, dropped=0, objects=[record],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("epochs_and_frames", "counted"),
    [
        ([(0, 0), (0, 1), (0, 2)], [0, 1, 2]),
        ([(0, 0), (0, 1), (1, 2), (1, 3), (1, 4)], [0, 1, 2]),  # over before it was held: shown again
    ],
)
def test_frames_count_from_the_beginning_of_the_last_showing(
    epochs_and_frames: list[tuple[int, int]], counted: list[int]
) -> None:
    heard = [(0, structs.replace(published(frame, LEFT), epoch=epoch)) for epoch, frame in epochs_and_frames]
    assert [message.frame for _, message in last_showing(heard)] == counted


@pytest.mark.parametrize("shown_before", [False, True])
def test_it_listens_until_the_last_frame_of_the_film_and_no_longer(shown_before: bool) -> None:
    """Not until nothing came for so long that nothing can come any more."""

    def showing(first: int) -> Iterator[Message]:
        """The decoder is at the end before the model is."""
        for body in (published(first, LEFT), ended, published(first + 1, LEFT), published(first + 2, LEFT)):
            yield Message("", body, None)

    def messages() -> Iterator[Message]:
        if shown_before:
            yield from showing(0)
        heard.marked.set()
        yield from showing(3 * shown_before)
        raise AssertionError("it waits for more")

    ended = Event(event="stream_ended", stream="pond", frame=None, epoch=0, time=0.0)
    heard = Heard(3)
    heard.listen(messages())
    assert len(heard.tracks) == 3 + 3 * shown_before


@pytest.mark.parametrize(
    ("found", "truth", "score"),
    [
        (LEFT, LEFT, 1.0),
        (LEFT, RIGHT, 1 / 3),
        (NOWHERE, LEFT, 0.0),  # missed
        (NOWHERE, NOWHERE, 1.0),  # rightly lost
        (NOWHERE, TINY, 1.0),
        (LEFT, NOWHERE, 0.0),  # seen where nothing is
        (TINY, TINY, 0.0),
    ],
)
def test_what_one_frame_scores(found: tuple, truth: tuple, score: float) -> None:
    judged = judge(7, [published(0, found)], mask(truth)[None])
    assert judged.mean_iou == pytest.approx(score)


def test_frames_that_were_dropped_do_not_count_and_the_others_meet_their_own_truth() -> None:
    truth_nhw = np.stack([mask(where) for where in (LEFT, RIGHT, RIGHT, NOWHERE)])
    judged = judge(7, [published(0, LEFT), published(2, LEFT), published(3, NOWHERE)], truth_nhw)
    assert judged.iou_n.tolist() == pytest.approx([1, 1 / 3, 1])
    assert judged.hidden_n.tolist() == [False, False, True]


def test_an_object_that_was_never_published_is_an_error() -> None:
    with pytest.raises(SystemExit, match="object 8 was never published"):
        judge(8, [published(0, LEFT)], mask(LEFT)[None])


def first_frames() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return islice(scene.render(), 2)


def test_the_scene_is_the_same_on_every_run() -> None:
    for (picture, truth_hw), (again, truth_again_hw) in zip(first_frames(), first_frames(), strict=True):
        assert (picture == again).all()
        assert (truth_hw == truth_again_hw).all()


def test_the_tracked_fish_are_whole_at_the_start_and_the_picture_is_that_of_a_camera() -> None:
    (picture, truth_hw), (following, _) = first_frames()
    assert picture.shape == (scene.HEIGHT, scene.WIDTH, 3)
    assert all((truth_hw == number).sum() > 50 * HIDDEN_PX for number in (1, 2))
    assert (picture != following).mean() > 0.5  # noise


def test_the_contact_sheet_shows_half_size_pictures_in_order(tmp_path) -> None:
    pictures = [np.full((48, 64, 3), level, np.uint8) for level in range(100)]
    contact_sheet(tmp_path / "sheet.png", pictures)
    sheet = np.asarray(Pil.open(tmp_path / "sheet.png"))
    assert sheet.shape == (4 * 24, 4 * 32, 3)
    assert sheet[0, 0, 0] == 0
    assert sheet[-1, -1, 0] == 99


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (LEFT, "on itself"),
        (RIGHT, "on another one"),
        ((slice(30, 40), slice(40, 60)), "on the background"),
        (NOWHERE, "on nothing"),
    ],
)
def test_where_an_object_ended(found: tuple, expected: str) -> None:
    labels_hw = mask(LEFT).astype(np.uint8)
    labels_hw[RIGHT] = 2
    labels_nhw = np.stack([labels_hw, labels_hw])
    assert ending(7, [published(0, LEFT), published(1, found)], labels_nhw, 1) == expected


def test_an_object_without_a_mask_where_it_is_hidden_is_rightly_gone() -> None:
    assert ending(7, [published(0, NOWHERE)], mask(TINY).astype(np.uint8)[None], 1) == "rightly gone"


def test_a_folder_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = subprocess.run([str(ROOT / "tools" / "demo"), "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "is not empty; name a new folder" in " ".join(done.stderr.split())
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def demo(out: Path, *options: str) -> dict[str, float]:
    """Run it; the figures of its last line, its files being there."""
    command = [str(ROOT / "tools" / "demo"), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert set(summary) == {"frames", "objects", "mean_iou", "fps", "latency_ms_p50"}
    assert summary["objects"] == 2
    lines = (out / "tracks.jsonl").read_text().splitlines()
    assert len(lines) == summary["frames"]
    assert {"frame", "objects", "size"} <= json.loads(lines[-1]).keys()
    assert (out / "overlay.mp4").stat().st_size > 50_000
    with Pil.open(out / "contact-sheet.png") as sheet:
        assert sheet.size == (1280, 720)
    return summary


def test_the_demo_follows_two_fish_through_the_daemon(tmp_path: Path) -> None:
    summary = demo(tmp_path / "demo")
    assert summary["frames"] == scene.FRAMES  # the film waits, however slow the machine is
    assert summary["mean_iou"] >= 0.75


def test_the_real_demo_follows_two_cars(tmp_path: Path) -> None:
    summary = demo(tmp_path / "demo", "--real")
    assert summary["frames"] == 42
    assert summary["mean_iou"] >= 0.75


def test_the_real_film_is_small_has_truth_and_says_whose_it_is() -> None:
    film = cars()
    assert film.labels_nhw.shape == (len(film.pictures), 360, 640)
    assert sum(path.stat().st_size for path in CARS.iterdir()) < 1_000_000
    assert "Creative Commons Attribution 4.0" in (CARS / "README.md").read_text()
