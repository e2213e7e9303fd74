"""One fleet for all tests: its daemons take long to start. Each class finds all boxes up, and no streams."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fleets import TestFleet, running
from helpers.hasty import forked
from helpers.tracking import blobs


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4", fps=5)


@pytest.fixture(scope="session")
def shared_results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all boxes write the results of files into."""
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="session")
def machine(
    tmp_path_factory: pytest.TempPathFactory,
    film: Path,
    shared_results: Path,
    preloaded: None,  # noqa: ARG001 - it is to be there
) -> Iterator[TestFleet]:
    jobs = {"inputs": [str(film.parent)], "results": str(shared_results), "device": "cpu"}
    settings = {name: {"jobs": jobs, "mirror": True} for name in ("north-1", "north-2")}
    settings["south.1"] = {"jobs": jobs, "mirror": True, "labels": {"site": "south"}}
    folder = tmp_path_factory.mktemp("fleet")
    with running(folder, ["north-1", "north-2", "south.1"], film.parent, settings, launch=forked) as fleet:
        yield fleet


@pytest.fixture(scope="class")
def fleet(machine: TestFleet) -> Iterator[TestFleet]:
    machine.start_what_is_not_running()
    yield machine
    machine.forget_streams()
