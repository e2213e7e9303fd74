"""The judging suite: only what is listed is judged, its table, and what scores are worth, worked out by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from evaluation.follow import Result
from evaluation.suite import HEADER, Judged, judge_suite, row, score_error
from tracker.config import EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.engine.models.build import load_model
from tracker.images.types import Rgb
from tracker.protocol.prompt import Prompt
from training.calibrate import fit
from training.export import Shift, export
from training.model import build


def write(stem: Path, x: int) -> None:
    label_hw = np.zeros((64, 64), np.uint8)
    label_hw[20:44, x : x + 20] = 1
    label_hw[:8, :8] = 2
    stem.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(label_hw[..., None] == 1, 250, 60).repeat(3, 2).astype(np.uint8)).save(f"{stem}.jpg")
    Image.fromarray(label_hw).save(f"{stem}.png")


@pytest.fixture
def sets(tmp_path: Path) -> Path:
    write(tmp_path / "images" / "cats" / "one", 20)
    for time in range(3):
        write(tmp_path / "made" / f"{time:05}", 10 + 4 * time)
    for kind, suffix in (("frames", "jpg"), ("masks", "png")):
        (tmp_path / "videos" / "man" / "walk" / kind).mkdir(parents=True)
        for path in (tmp_path / "made").glob(f"*.{suffix}"):
            path.rename(tmp_path / "videos" / "man" / "walk" / kind / path.name)
    splits = {"train": {"images": ["no"], "videos": []}}
    splits["judge"] = {"images": ["images/cats/one"], "videos": ["videos/man/walk"]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    return tmp_path


def test_all_that_is_listed_is_judged(sets: Path) -> None:
    engine = Engine(load_model(ModelConfig("nano", image_size=64)), EngineConfig())
    film, still = judge_suite(engine, sets, sets / "sheets")
    assert (film.name, film.clips, len(film.first["box"]), len(film.followed)) == ("man", 1, 2, 2)
    assert (still.name, still.clips, len(still.first["point"]), still.followed) == ("cats", 1, 2, [])
    assert (sets / "sheets" / "man-walk.png").is_file()
    assert len(row(film)) == len(row(still)) == len(HEADER)
    assert [judged.name for judged in judge_suite(engine, sets, None, ["cats"])] == ["cats"]


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no splits\.json"):
        list(judge_suite(None, tmp_path, None))  # type: ignore[arg-type]


def result(*said: tuple[float, float]) -> Result:
    return Result("clip", 1, said_t=list(said), j_t=[j for _, j in said], f_t=[0.5], score_right_t=[True])


def test_scores_that_are_right_in_the_mean_of_their_bin_have_no_error() -> None:
    assert score_error([result((0.82, 0.72), (0.84, 0.94))]) == pytest.approx(0)
    assert score_error([result((0.9, 0.4)), result((0.3, 0.5), (0.3, 0.5), (1.0, 0.9))]) == pytest.approx(
        (abs(0.9 - 0.4 + 1.0 - 0.9) + 2 * 0.2) / 4
    )
    assert np.isnan(score_error([]))


def test_identity_counts_only_where_there_are_others() -> None:
    alone, one_of_two = result((0.8, 0.8)), result((0.8, 0.8))
    one_of_two.several, one_of_two.elsewhere_t, alone.elsewhere_t = True, [True, False], [False]
    assert row(Judged("set", followed=[alone, one_of_two])).split()[-2] == "0.500"


def test_scores_too_hopeful_are_set_right() -> None:
    rng = np.random.default_rng(0)
    said_n = rng.uniform(0.2, 0.98, 4000)
    logit_n = np.log(said_n / (1 - said_n))
    slope, offset = fit(said_n, 1 / (1 + np.exp(-(0.5 * logit_n - 1))))
    assert slope == pytest.approx(0.5, abs=0.01)
    assert offset == pytest.approx(-1, abs=0.01)
    assert fit(said_n, 1 - said_n)[0] == 0.1  # the order of candidates is kept


def test_the_calibration_is_folded_into_the_weights(tmp_path: Path) -> None:
    model, image_nchw = build(64).eval(), torch.randn(1, 3, 64, 64)
    state = {"average": model.state_dict(), "stage": 0, "step": 0}
    torch.save(state, tmp_path / "last.pt")
    for name, shift in (("plain", Shift()), ("shifted", Shift(slope=0.5, offset=-1.0))):
        export(tmp_path / "last.pt", tmp_path / f"{name}.safetensors", shift)
    said = []
    for name in ("plain", "shifted"):
        engine = Engine(
            load_model(ModelConfig("nano", str(tmp_path / f"{name}.safetensors"), image_size=64)), EngineConfig()
        )
        features = engine.encode([Rgb((image_nchw[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy())])
        prompt = Prompt(box_xyxy=np.array([10, 10, 40, 40], np.float32))
        said.append(engine.prompt(ObjectMemory(), features, 0, 0, prompt, (64, 64))[1].score)
    logits = [np.log(score / (1 - score)) for score in said]
    assert logits[1] == pytest.approx(0.5 * logits[0] - 1, abs=0.01)
