"""Files that are submitted are done once or again by idle boxes: none is missing, none half-written."""

import asyncio
import json
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from helpers.boxes import until
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
from helpers.fleets import LOOK_S, START_S, TestFleet, nats_server
from helpers.waiting import wait_until
from helpers.workers import ask, worker_of
from tracker.cli.trackerd import trackerd
from tracker.errors import BadRequest
from tracker.fleet import child, files
from tracker.fleet.files import Files, Progress
from tracker.fleet.settings import JobsConfig
from tracker.fleet.work import FileDone, Job, Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

PICTURES = 24


@pytest.fixture(scope="module")
def pictures(film: Path) -> list[Path]:
    return pictures_in(film.parent / "pictures", PICTURES)


@dataclass(frozen=True, slots=True)
class Done:
    """A job that all boxes worked on, one of which was killed over it."""

    job: Job
    progress: Progress
    failed: dict[str, FileDone]  # by the file's name


@pytest.fixture(scope="class")
def done(fleet: TestFleet, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Done:
    broken = pictures[0].parent / "broken.png"
    broken.write_bytes(b"no picture")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    elsewhere.write_bytes(b"")
    job = submit(fleet, segmenting("coco", "masks"), [*pictures, broken, elsewhere])
    wait_until(lambda: progress(fleet, job).done >= 2, 2 * START_S, LOOK_S)
    fleet.boxes["north-1"].kill()
    after = wait_for_all(fleet, job)
    failed = {Path(one.path).name: one for one in failures(fleet, job)}
    wait_until(lambda: not working(fleet), START_S)  # who has nothing to do ends the process that works
    return Done(job, after, failed)


class TestFiles:
    def test_are_done_by_all_boxes_though_one_is_killed(
        self, done: Done, pictures: list[Path], shared_results: Path
    ) -> None:
        assert done.progress.done == PICTURES
        assert wrong_results(shared_results / done.job.job, pictures) == []

    @pytest.mark.parametrize(
        ("name", "says"), [("broken.png", "is not a picture that can be read"), ("secret.png", "jobs.inputs")]
    )
    def test_that_cannot_be_done_are_listed_with_the_reason(self, done: Done, name: str, says: str) -> None:
        assert sorted(done.failed) == ["broken.png", "secret.png"]
        # More where a slow box let a file go meanwhile: that counts as a delivery too.
        assert done.failed[name].tries >= files.MAX_TRIES
        assert says in (done.failed[name].error or "")

    def test_whose_results_are_in_a_folder_are_not_fetched_out_of_nats(
        self, fleet: TestFleet, done: Done, tmp_path: Path
    ) -> None:
        with pytest.raises(BadRequest, match=r"is not in NATS; it is where jobs\.results of box"):
            with_files(fleet, partial(files.fetch, job=done.job.job, folder=tmp_path))

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


def typed(*words: str) -> str:
    result = CliRunner().invoke(trackerd, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_without_a_shared_folder_files_are_indexed_fetched_out_of_nats_and_searched(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "NICE", 0)
    few, fetched, index = pictures[:3], tmp_path / "results", ("--db", str(tmp_path / "looks.db"))
    model = ("--image-size", "64")

    def submit_and_fetch(url: str, is_done: threading.Event) -> None:
        nats = ("--nats", url)
        name = typed("fleet", "submit", "index", *map(str, few), *model, *nats).strip()
        assert is_done.wait(START_S)
        typed("fleet", "jobs", name, "--fetch", str(fetched), *nats)

    async def work(there: Files) -> None:
        is_done = threading.Event()

        async def are_done() -> bool:
            return [one.done for one in await files.progress(there)] == [len(few)]

        async with worker_of(there, JobsConfig(inputs=[str(few[0].parent)], device="cpu")):
            people = asyncio.ensure_future(asyncio.to_thread(submit_and_fetch, server.url, is_done))
            await until(are_done)
            is_done.set()
            await people

    with nats_server(tmp_path) as server:
        ask(server, work, 2 * START_S)
    typed("index", "--from", str(fetched), *index)
    hits = json.loads(typed("similar", str(few[0]), *index, *model, "--device", "cpu", "--json"))["hits"]
    assert sorted(hit["path"] for hit in hits) == sorted(map(str, few))
    assert hits[0]["path"] == str(few[0])
