"""What most tests of a daemon look at."""

from pathlib import Path

import pytest

from helpers.tracking import blobs


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4")
