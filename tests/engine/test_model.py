"""Models by name: what is built, what is refused and what the refusal says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sam2.build_sam import build_sam2_video_predictor

from tracker.config import EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.engine.models import build as models
from tracker.engine.models import zoo
from tracker.errors import ModelError
from tracker.protocol.prompt import Prompt


@pytest.fixture(scope="module")
def tiny() -> Any:
    torch.manual_seed(0)
    return models.network(zoo.config_path("sam2.1_hiera_tiny"), 64)


def test_all_names_have_a_config_and_a_place_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKER_MODELS", str(tmp_path))
    assert zoo.names()[0] == "nano"
    assert len(zoo.names()) == 9
    for name in zoo.names():
        assert zoo.config_path(name).is_file()
        source = zoo.weights(name)
        assert (source is None) == (name == "nano")
        if source is not None:
            assert source.url.endswith(f"/{name}.pt")
            assert len(bytes.fromhex(source.sha256)) == 32
            assert zoo.checkpoint_path(name) == tmp_path / f"{name}.pt"


@pytest.mark.parametrize(
    ("name", "image_size", "millions"), [("nano", 352, 5.7), ("sam2.1_hiera_tiny", 1024, 38.9)]
)
def test_show(name: str, image_size: int, millions: float) -> None:
    info = zoo.show(name)
    assert info.config.is_absolute()
    assert info.image_size == image_size
    assert info.parameters / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("name", ["nano", "sam2.1_hiera_tiny", "sam2_hiera_small"])
def test_the_official_builder_takes_the_same_config(name: str) -> None:
    predictor = build_sam2_video_predictor(f"//{zoo.config_path(name)}", device="cpu")
    ours = models.network(zoo.config_path(name)).state_dict()
    assert {k: v.shape for k, v in predictor.state_dict().items()} == {k: v.shape for k, v in ours.items()}


@pytest.mark.parametrize("name", ["nano", "sam2.1_hiera_base_plus", "sam2_hiera_tiny"])
@pytest.mark.parametrize("image_size", [96, 160])
def test_any_multiple_of_32_works(name: str, image_size: int) -> None:
    engine = Engine(models.Model(name, models.network(zoo.config_path(name), image_size)), EngineConfig())
    features = engine.encode_tensor(torch.zeros(2, 3, image_size, image_size))
    prompt = Prompt(torch.tensor([[5.0, 5.0]]).numpy(), torch.ones(1, dtype=torch.int32).numpy())
    track, mask = engine.prompt(ObjectMemory(), features, 0, 0, prompt, (10, 10))
    assert mask.logits_hw.shape == (image_size // 4, image_size // 4)
    ((_, mask),) = engine.propagate([(track, 1, 1)], features)
    assert mask.logits_hw.shape == (image_size // 4, image_size // 4)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_weights_come_back(tiny: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"model": tiny.state_dict()}, path)
    else:
        save_file(tiny.state_dict(), path)
    config = ModelConfig(name="sam2.1_hiera_tiny", checkpoint=str(path), device="cpu", image_size=64)
    model = models.load_model(config)
    assert model.image_size == 64
    assert model.sha256 is not None
    for key, value in model.net.state_dict().items():
        assert torch.equal(value, tiny.state_dict()[key]), key


def write(path: Path, content: object) -> Path:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("x.pt", b"hello", "no checkpoint"),
        ("x.safetensors", b"hello", "no checkpoint"),
        ("x.pt", {"weights": {}}, "under 'model'"),
        ("x.pt", {"model": {"a": torch.zeros(1)}}, "does not fit sam2.1_hiera_tiny: .* missing, 1 unknown"),
        ("x.pt", {"model": torch.nn.Linear}, "no checkpoint"),  # would run code when unpickled
    ],
)
def test_what_is_no_checkpoint_is_refused(tiny: Any, tmp_path: Path, file: str, content: object, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        models.load_weights(tiny, write(tmp_path / file, content), "sam2.1_hiera_tiny")


def test_weights_of_another_size_are_refused(tiny: Any, tmp_path: Path) -> None:
    small = models.network(zoo.config_path("sam2.1_hiera_small"), 64)
    path = write(tmp_path / "small.pt", {"model": small.state_dict()})
    before = tiny.state_dict()["no_mem_embed"].clone()
    with pytest.raises(ModelError, match=r"name the model that it was made for in model\.name"):
        models.load_weights(tiny, path, "sam2.1_hiera_tiny")
    assert torch.equal(tiny.state_dict()["no_mem_embed"], before)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (ModelConfig(name="sam2.1_hiera_tinny"), "did you mean 'sam2.1_hiera_tiny'"),
        (ModelConfig(name="sam2.1_hiera_tiny"), "run `trackerd models fetch sam2.1_hiera_tiny`"),
        (ModelConfig(checkpoint="/nowhere/x.pt"), r"model\.checkpoint: there is no file /nowhere/x\.pt"),
        (ModelConfig(device="gpu"), "is no device"),
        (ModelConfig(device="cuda:99"), "device: cpu"),
        (ModelConfig(device="meta"), "not supported"),
    ],
)
def test_refusals(config: ModelConfig, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKER_MODELS", str(tmp_path))
    with pytest.raises(ModelError, match=says):
        models.load_model(config)


def test_no_gpu_is_no_error() -> None:
    assert models.pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert models.pick_device("cpu") == torch.device("cpu")


def test_a_config_that_the_engine_is_not_made_for(tmp_path: Path) -> None:
    text = zoo.config_path("nano").read_text().replace("num_maskmem: 7", "num_maskmem: 5")
    path = tmp_path / "other.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match="num_maskmem is 5"):
        models.network(path)
