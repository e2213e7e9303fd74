"""Files that are submitted are done once or again by idle boxes: none is missing, none half-written."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers.fleet_files import (
    failures,
    pictures_in,
    progress,
    segmenting,
    submit,
    wait_for_all,
    with_files,
    working,
    wrong_results,
)
from helpers.fleets import LOOK_S, START_S, TRACKERD, TestFleet
from helpers.waiting import wait_until
from tracker.errors import BadRequest
from tracker.fleet import files
from tracker.fleet.work import Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

PICTURES = 24


@pytest.fixture(scope="class")
def pictures(film: Path) -> list[Path]:
    return pictures_in(film.parent / "pictures", PICTURES)


@pytest.fixture(scope="class")
def one_box_without_a_folder(fleet: TestFleet) -> Iterator[None]:
    """All results go into NATS."""
    for box in fleet.boxes.values():
        box.kill_fleet()
    box, settings = fleet.boxes["north-2"], fleet.boxes["north-2"].settings
    box.settings = {**settings, "jobs": {**settings["jobs"], "results": None}}
    box.start_fleet()
    yield
    box.kill_fleet()
    box.settings = settings
    fleet.start_what_is_not_running()


def run(*words: str) -> str:
    """`trackerd` as somebody types it."""
    return subprocess.run([*TRACKERD, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


class TestFiles:
    def test_are_done_by_all_boxes_though_one_is_killed(
        self, fleet: TestFleet, pictures: list[Path], shared_results: Path
    ) -> None:
        job = submit(fleet, segmenting("coco", "masks"), pictures)
        wait_until(lambda: progress(fleet, job).done >= 2, 2 * START_S, LOOK_S)
        fleet.boxes["north-1"].kill()
        assert wait_for_all(fleet, job).done == PICTURES
        assert wrong_results(shared_results / job.job, pictures) == []
        wait_until(lambda: not working(fleet), START_S)  # who has nothing to do ends the process that works

    def test_that_cannot_be_done_are_listed_with_the_reason(
        self, fleet: TestFleet, film: Path, tmp_path: Path
    ) -> None:
        broken = film.parent / "pictures" / "broken.png"
        broken.write_bytes(b"no picture")
        elsewhere = tmp_path / "secret.png"
        elsewhere.write_bytes(b"")
        job = submit(fleet, segmenting("coco"), [broken, elsewhere])
        assert wait_for_all(fleet, job).failed == 2
        failed = failures(fleet, job)
        wait_until(lambda: not working(fleet), START_S)
        reasons = {Path(one.path).name: (one.tries, one.error or "") for one in failed}
        # More where a slow box let a file go meanwhile: that counts as a delivery too.
        assert all(tries >= files.MAX_TRIES for tries, _ in reasons.values())
        assert "could not be read" in reasons["broken.png"][1]
        assert "jobs.inputs" in reasons["secret.png"][1]

    def test_whose_results_are_in_a_folder_are_not_fetched_out_of_nats(
        self, fleet: TestFleet, pictures: list[Path], tmp_path: Path
    ) -> None:
        job = submit(fleet, segmenting("coco"), pictures[:1])
        wait_for_all(fleet, job)
        with pytest.raises(BadRequest, match=r"is not in NATS; it is where jobs\.results of box"):
            with_files(fleet, partial(files.fetch, job=job.job, folder=tmp_path))
        wait_until(lambda: not working(fleet), START_S)

    @pytest.mark.parametrize(
        ("task", "says"),
        [
            (segmenting("jsonl"), "want: jsonl; segment gives coco"),
            (segmenting(), "want: nothing"),
            (Work(kind="segment", want=["coco"]), "mark an object"),
            (segmenting("coco", box=(1, 2, 3, 4), everything=True), "mark an object"),
            (Work(kind="index", want=["coco"]), "want: coco; index gives looks"),
            (Work(kind="index", want=["looks"], points=[[1, 2]]), "points are not taken"),
            (Work(kind="index", want=["looks"], box=(1, 2, 3, 4), everything=True), "or everything"),
        ],
    )
    def test_that_no_box_could_do_are_refused(self, fleet: TestFleet, task: Work, says: str) -> None:
        with pytest.raises(BadRequest, match=says):
            submit(fleet, task, [])


@pytest.mark.usefixtures("one_box_without_a_folder")
class TestFilesWithoutASharedFolder:
    def test_are_indexed_fetched_out_of_nats_and_searched(
        self, fleet: TestFleet, pictures: list[Path], tmp_path: Path
    ) -> None:
        few, nats = pictures[:3], ("--nats", fleet.nats.url)
        name = run("fleet", "submit", "index", *map(str, few), "--image-size", "64", *nats).strip()
        wait_until(lambda: len(with_files(fleet, partial(files.outcomes, job=name))) == 3, START_S, LOOK_S)
        run("fleet", "jobs", name, "--fetch", str(tmp_path / "results"), *nats)
        run("index", "--from", str(tmp_path / "results"), "--db", str(tmp_path / "looks.db"))
        model = ("--db", str(tmp_path / "looks.db"), "--image-size", "64", "--device", "cpu")
        hits = json.loads(run("similar", str(few[0]), *model, "--json"))["hits"]
        assert sorted(hit["path"] for hit in hits) == sorted(map(str, few))
        assert hits[0]["path"] == str(few[0])
        wait_until(lambda: not working(fleet), START_S)
