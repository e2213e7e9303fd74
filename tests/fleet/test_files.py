"""Files that are submitted are done once or again by idle boxes: none is missing, none half-written."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from helpers.fleets import START_S, TestFleet
from helpers.waiting import wait_until
from tracker.errors import BadRequest
from tracker.fleet import files
from tracker.fleet.files import Files, Job, Progress, Want, Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

PICTURES = 24


def work(*want: Want, **marks: Any) -> Work:
    return Work(kind="segment", want=list(want), image_size=64, **(marks or {"box": (110, 80, 130, 100)}))


@pytest.fixture(scope="class")
def pictures(film: Path) -> list[Path]:
    folder = film.parent / "pictures"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"picture{i}.png" for i in range(PICTURES)]
    for i, path in enumerate(paths):
        picture = Image.new("RGB", (160, 120), (60, 60, 60))
        picture.paste((255, 255, 255), (110, 80, 130, 100 + i % 5))
        picture.save(path)
    return paths


def submit(fleet: TestFleet, task: Work, paths: list[Path]) -> Job:
    return fleet.do(lambda buckets: _with_files(buckets.js, partial(files.submit, work=task, paths=paths)))


async def _with_files(js: Any, work: Callable[[Files], Awaitable[Any]]) -> Any:
    return await work(await Files.open(js))


def progress(fleet: TestFleet, job: Job) -> Progress:
    found = fleet.do(lambda buckets: _with_files(buckets.js, files.progress))
    return next(one for one in found if one.job == job.job)


def working(fleet: TestFleet) -> list[psutil.Process]:
    """The boxes' child processes for files."""
    running = [box.fleet for box in fleet.boxes.values() if box.fleet is not None]
    return [child for process in running for child in psutil.Process(process.pid).children()]


def wait_for_all(fleet: TestFleet, job: Job) -> Progress:
    wait_until(lambda: progress(fleet, job).done + progress(fleet, job).failed == job.files, 2 * START_S)
    return progress(fleet, job)


class TestFiles:
    def test_are_done_by_all_boxes_though_one_is_killed(
        self, fleet: TestFleet, pictures: list[Path], shared_results: Path
    ) -> None:
        job = submit(fleet, work("coco", "masks"), pictures)
        wait_until(lambda: progress(fleet, job).done >= 2, 2 * START_S)
        fleet.boxes["north-1"].kill()
        assert wait_for_all(fleet, job).done == PICTURES
        folder = shared_results / job.job
        for number, picture in enumerate(pictures):
            place = folder / f"{number:06d}-{picture.stem}"
            assert json.loads((place / "coco.json").read_text())["images"][0]["file_name"] == picture.name
            with Image.open(place / "masks" / f"{picture.stem}.png") as mask:
                assert mask.size == (160, 120)
        assert sorted(path.name for path in folder.glob("0*")) == sorted(path.name for path in folder.iterdir())
        wait_until(lambda: not working(fleet), START_S)  # who has nothing to do ends the process that works

    def test_that_cannot_be_done_are_listed_with_the_reason(
        self, fleet: TestFleet, film: Path, tmp_path: Path
    ) -> None:
        broken = film.parent / "pictures" / "broken.png"
        broken.write_bytes(b"no picture")
        elsewhere = tmp_path / "secret.png"
        elsewhere.write_bytes(b"")
        job = submit(fleet, work("coco"), [broken, elsewhere])
        assert wait_for_all(fleet, job).failed == 2
        failed = fleet.do(lambda buckets: _with_files(buckets.js, partial(files.failures, job=job.job)))
        wait_until(lambda: not working(fleet), START_S)
        reasons = {Path(one.path).name: (one.tries, one.error or "") for one in failed}
        # More where a slow box let a file go meanwhile: that counts as a delivery too.
        assert all(tries >= files.MAX_TRIES for tries, _ in reasons.values())
        assert "could not be read" in reasons["broken.png"][1]
        assert "jobs.inputs" in reasons["secret.png"][1]

    @pytest.mark.parametrize(
        ("task", "says"),
        [
            (work("jsonl"), "want: jsonl; segment gives coco"),
            (work(), "want: nothing"),
            (Work(kind="segment", want=["coco"]), "mark an object"),
            (work("coco", box=(1, 2, 3, 4), everything=True), "mark an object"),
        ],
    )
    def test_that_no_box_could_do_are_refused(self, fleet: TestFleet, task: Work, says: str) -> None:
        with pytest.raises(BadRequest, match=says):
            submit(fleet, task, [])
