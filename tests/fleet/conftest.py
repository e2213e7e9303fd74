"""One fleet for all tests: its daemons take long to start. Each class finds all boxes up, and no streams."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fleets import TestFleet, running
from helpers.tracking import blobs


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4", fps=5)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory, film: Path) -> Iterator[TestFleet]:
    settings = {"south.1": {"labels": {"site": "south"}}}
    folder = tmp_path_factory.mktemp("fleet")
    with running(folder, ["north-1", "north-2", "south.1"], film.parent, settings) as fleet:
        yield fleet


@pytest.fixture(scope="class")
def fleet(machine: TestFleet) -> Iterator[TestFleet]:
    machine.start_what_is_not_running()
    yield machine
    machine.apply({}, prune=True)
