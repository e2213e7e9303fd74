"""CLIP is the official one, takes what is one, and says what is wrong with what is none: a tiny random model."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import huggingface_hub
import msgspec
import numpy as np
import pytest
import torch

from helpers.clips import TEXTS, noise
from tracker.config import LabelsConfig
from tracker.engine.clip import Clip, source_of
from tracker.errors import ModelError


class TestClip:
    def test_equals_the_official_model(self, clip: Clip, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPProcessor

        model = CLIPModel.from_pretrained(folder).eval()
        whole = CLIPProcessor(CLIPImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
        crops = [noise(1), noise(2)]
        sentences = [f"a photo of a {text}" for text in TEXTS]
        with torch.inference_mode():
            official = model(**whole(text=sentences, images=crops, return_tensors="pt", padding=True))
        expected_nt = official.logits_per_image.softmax(1).numpy()
        assert np.ptp(expected_nt) > 0.05
        np.testing.assert_allclose(clip.likely(crops, [TEXTS] * 2), expected_nt, atol=1e-5)

    def test_a_batch_gives_what_each_gives_alone(self, clip: Clip) -> None:
        crops, texts = [noise(1), noise(2), noise(3)], [TEXTS, TEXTS[:2], TEXTS[::-1]]
        together = clip.likely(crops, texts)
        assert [len(answer) for answer in together] == [5, 2, 5]
        for crop, one, answer in zip(crops, texts, together, strict=True):
            np.testing.assert_allclose(clip.likely([crop], [one])[0], answer, atol=1e-5)

    def test_one_pass_for_all_crops_and_none_for_known_texts(self, clip: Clip) -> None:
        sizes: dict[str, list[int]] = {"vision_model": [], "text_model": []}
        hooks = [
            getattr(clip._net, name).register_forward_pre_hook(lambda _, args, seen=seen: seen.append(len(args[0])))
            for name, seen in sizes.items()
        ]
        texts = ("goose", "duck", "swan")
        for _ in range(2):
            clip.likely([noise(1), noise(2)], [texts, texts])
        for hook in hooks:
            hook.remove()
        assert sizes == {"vision_model": [2, 2], "text_model": [3]}

    def test_a_text_that_is_too_long_is_cut(self, clip: Clip) -> None:
        (answer,) = clip.likely([noise(1)], [("a" * 200, "b")])
        assert answer.sum() == pytest.approx(1)

    def test_the_template_is_what_is_read(self, settings: LabelsConfig, clip: Clip) -> None:
        bare = Clip.load(msgspec.structs.replace(settings, template="{}"))
        (short,), (long,) = bare.likely([noise(1)], [TEXTS]), clip.likely([noise(1)], [TEXTS])
        assert np.abs(short - long).max() > 1e-3
        np.testing.assert_allclose(
            bare.likely([noise(1)], [tuple(f"a photo of a {t}" for t in TEXTS)])[0], long, atol=1e-5
        )

    def test_few_threads_in_its_own_thread_and_as_many_as_before_in_all_others(
        self, settings: LabelsConfig
    ) -> None:
        numbers: list[int] = []
        torch.set_num_threads(3)

        def work() -> None:
            Clip.load(settings)
            numbers.append(torch.get_num_threads())

        for target in (work, lambda: numbers.append(torch.get_num_threads())):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        assert [*numbers, torch.get_num_threads()] == [1, 3, 3]


class TestLoading:
    @pytest.mark.parametrize(
        ("change", "says"),
        [
            (lambda path: (path / "model.safetensors").unlink(), "no file named model.safetensors"),
            (lambda path: (path / "model.safetensors").write_bytes(b"hello" * 100), "cannot be loaded"),
            (lambda path: (path / "config.json").unlink(), "cannot be loaded"),
            (lambda path: edit(path / "config.json", model_type="bert"), "of type 'bert'"),
            (lambda path: edit(path / "config.json", projection_dim=12), "cannot be loaded"),
            (lambda path: more_layers(path / "config.json"), "lacks 16 of CLIP's tensors"),
            (lambda path: [p.unlink() for p in path.glob("tokenizer*")], "token"),
            (lambda path: [p.unlink() for p in path.glob("*processor*")], "cannot be loaded"),
        ],
        ids=[
            "no weights",
            "no tensors",
            "no config",
            "not CLIP",
            "other sizes",
            "too few",
            "no tokenizer",
            "no pictures",
        ],
    )
    def test_a_folder_with_wrong_files(
        self, change: Any, says: str, settings: LabelsConfig, folder: Path, tmp_path: Path
    ) -> None:
        broken = tmp_path / "broken"
        shutil.copytree(folder, broken)
        change(broken)
        with pytest.raises(ModelError, match=says) as refused:
            Clip.load(msgspec.structs.replace(settings, model=str(broken)))
        assert refused.value.message.startswith("labels.model: ")
        assert str(broken) in refused.value.message

    def test_a_hub_id_that_was_never_fetched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match=r"labels\.model: nobody/no-clip cannot be loaded: .+"):
            Clip.load(LabelsConfig(model="nobody/no-clip", device="cpu"))

    @pytest.mark.parametrize(
        ("model", "source"),
        [
            ("clip-vit-base-patch32", "openai/clip-vit-base-patch32"),
            ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
        ],
    )
    def test_names_and_hub_ids(self, model: str, source: str) -> None:
        assert source_of(model) == source

    @pytest.mark.parametrize(
        ("model", "says"),
        [
            ("clip-vit-base-patch23", "did you mean 'clip-vit-base-patch32'"),
            ("zebra", "known: clip-vit-base-patch32, "),
            ("/nowhere/clip", "there is no folder /nowhere/clip"),
            ("./clip", "there is no folder ./clip"),
            ("models/clip/base", "there is no folder models/clip/base"),
            (__file__, "is a file; name the folder"),
        ],
    )
    def test_what_is_no_model(self, model: str, says: str) -> None:
        with pytest.raises(ModelError, match=says.replace(".", r"\.")):
            source_of(model)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def more_layers(path: Path) -> None:
    text = json.loads(path.read_text())["text_config"]
    edit(path, text_config={**text, "num_hidden_layers": 3})
