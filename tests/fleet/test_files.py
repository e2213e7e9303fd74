"""Files that are submitted are done once or again by idle boxes: none is missing, none half-written."""

from pathlib import Path

import pytest

from helpers.fleet_files import (
    failures,
    pictures_in,
    progress,
    segmenting,
    submit,
    wait_for_all,
    working,
    wrong_results,
)
from helpers.fleets import LOOK_S, START_S, TestFleet
from helpers.waiting import wait_until
from tracker.errors import BadRequest
from tracker.fleet import files
from tracker.fleet.files import Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

PICTURES = 24


@pytest.fixture(scope="class")
def pictures(film: Path) -> list[Path]:
    return pictures_in(film.parent / "pictures", PICTURES)


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

    @pytest.mark.parametrize(
        ("task", "says"),
        [
            (segmenting("jsonl"), "want: jsonl; segment gives coco"),
            (segmenting(), "want: nothing"),
            (Work(kind="segment", want=["coco"]), "mark an object"),
            (segmenting("coco", box=(1, 2, 3, 4), everything=True), "mark an object"),
        ],
    )
    def test_that_no_box_could_do_are_refused(self, fleet: TestFleet, task: Work, says: str) -> None:
        with pytest.raises(BadRequest, match=says):
            submit(fleet, task, [])
