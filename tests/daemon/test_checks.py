"""What `trackerd check` finds beyond the shape of a configuration."""

from pathlib import Path

import pytest

from tracker.daemon.checks import check
from tracker.errors import ConfigError

WRONG = [
    ("control: {endpoint: 'tcp://0.0.0.0:5570'}", "control.endpoint"),
    ("control: {allow_sources: ['videos']}", "control.allow_sources: 'videos'"),
    ("model: {name: sam3}", "model.name"),
    ("model: {checkpoint: /nowhere.pt}", "model.checkpoint"),
    ("model: {device: 'cuda:99'}", "model.device"),
    ("streams: {a: {url: 'rtsp://cam/live', pace: all}}", "streams.a.pace"),
    ("streams: {a: {url: 'rtsp://cam/live', password_env: A, password_file: b}}", "streams.a.password_env"),
]


@pytest.mark.parametrize(("text", "key"), WRONG)
def test_it_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        check(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: {key}")


def test_it_finds_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text("\n".join(text for text, _ in (WRONG[0], WRONG[2], WRONG[5])))
    with pytest.raises(ConfigError) as caught:
        check(path)
    assert len(caught.value.problems) == 3


def test_a_right_one_passes(tmp_path: Path) -> None:
    path = tmp_path / "tracker.yaml"
    path.write_text("streams: {a: {url: 'rtsp://cam/live'}}")
    assert list(check(path).streams) == ["a"]
