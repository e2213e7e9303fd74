"""Files that a fleet works on: pictures, what people ask of a job, and what must hold of its results."""

import json
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
from PIL import Image

from helpers.fleets import LOOK_S, START_S, TestFleet
from helpers.waiting import wait_until
from tracker.fleet import files
from tracker.fleet.buckets import Buckets
from tracker.fleet.files import Files, Progress
from tracker.fleet.work import FileDone, Job, Want, Work

R = TypeVar("R")

SIZE_WH = (160, 120)
BOX_XYXY = (110, 80, 130, 100)


def pictures_in(folder: Path, count: int) -> list[Path]:
    """A bright square on grey, of five heights."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"picture{i}.png" for i in range(count)]
    x1, y1, x2, y2 = BOX_XYXY
    for i, path in enumerate(paths):
        picture = Image.new("RGB", SIZE_WH, (60, 60, 60))
        picture.paste((255, 255, 255), (x1, y1, x2, y2 + i % 5))
        picture.save(path)
    return paths


def segmenting(*want: Want, **marks: Any) -> Work:
    return Work(kind="segment", want=list(want), image_size=64, **(marks or {"box": BOX_XYXY}))


def submit(fleet: TestFleet, work: Work, paths: list[Path]) -> Job:
    return with_files(fleet, partial(files.submit, work=work, paths=paths))


def progress(fleet: TestFleet, job: Job) -> Progress:
    found = with_files(fleet, files.progress)
    return next(one for one in found if one.job == job.job)


def failures(fleet: TestFleet, job: Job) -> list[FileDone]:
    return with_files(fleet, partial(files.failures, job=job.job))


def wait_for_all(fleet: TestFleet, job: Job) -> Progress:
    """Until no file is left to be done."""

    def none_is_left() -> bool:
        now = progress(fleet, job)
        return now.done + now.failed == job.files

    wait_until(none_is_left, 2 * START_S, LOOK_S)
    return progress(fleet, job)


def with_files(fleet: TestFleet, work: Callable[[Files], Awaitable[R]]) -> R:
    async def ask(buckets: Buckets) -> R:
        return await work(await Files.open(buckets.nats))

    return fleet.do(ask)


def working(fleet: TestFleet) -> list[psutil.Process]:
    """The boxes' child processes for files."""
    running = [box.fleet for box in fleet.boxes.values() if box.fleet is not None]
    return [child for process in running for child in psutil.Process(process.pid).children()]


def wrong_results(folder: Path, pictures: list[Path]) -> list[str]:
    """What is missing, half-written or too much in a job's folder of COCO files and masks."""
    places = {f"{number:06d}-{picture.stem}": picture for number, picture in enumerate(pictures)}
    surplus = [f"{path.name} is nobody's" for path in folder.iterdir() if path.name not in places]
    return surplus + [wrong for name, picture in places.items() for wrong in _wrong_with(folder / name, picture)]


def _wrong_with(place: Path, picture: Path) -> list[str]:
    try:
        coco = json.loads((place / "coco.json").read_text())
        with Image.open(place / "masks" / f"{picture.stem}.png") as mask:
            mask.load()
            size_wh = mask.size
    except (OSError, ValueError) as error:
        return [f"{place.name}: {error}"]
    names = [image["file_name"] for image in coco["images"]]
    if names != [picture.name] or size_wh != SIZE_WH:
        return [f"{place.name}: is of {names}, {size_wh}"]
    return []
