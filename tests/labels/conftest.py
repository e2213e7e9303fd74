"""A tiny CLIP with random weights, and a labeller with an oracle in its place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.clips import TEXTS, save_tiny_clip
from helpers.labelling import Oracle
from tracker.config import LabelsConfig
from tracker.engine.clip import Clip
from tracker.labels.labeller import Labeller
from tracker.threads import Failures
from tracker.tracking.state import StreamTable


@pytest.fixture(scope="module")
def in_float32() -> Iterator[None]:
    """On every machine, so that numbers can be compared with the official ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tracker.engine.clip.CPU_INFO", Path("/nowhere"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    save_tiny_clip(path)
    return path


@pytest.fixture(scope="module")
def settings(
    folder: Path,
    in_float32: None,  # noqa: ARG001 - it is to be so
) -> LabelsConfig:
    return LabelsConfig(model=str(folder), device="cpu", min_confidence=0, texts=list(TEXTS))


@pytest.fixture(scope="module")
def clip(settings: LabelsConfig) -> Clip:
    return Clip.load(settings)


@pytest.fixture
def oracle() -> Oracle:
    return Oracle()


@pytest.fixture
def table() -> StreamTable:
    return StreamTable()


@pytest.fixture
def labeller(oracle: Oracle, table: StreamTable) -> Iterator[Labeller]:
    settings = LabelsConfig(model="x", every_s=1000, texts=["cat", "dog"])
    labeller = Labeller(settings, table, Failures(), load=lambda _: oracle)
    labeller.start()
    yield labeller
    oracle.gate.set()
    labeller.stop()
