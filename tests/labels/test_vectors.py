"""Vectors of one space, by CLIP itself and beside the labels."""

import threading
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from helpers.clips import noise, save_tiny_clip
from helpers.labelling import PATIENCE_S, Oracle, labels, stream_of
from helpers.tracking import wait_until
from tracker.config import LabelsConfig
from tracker.engine.clip import Clip, _loaded, picture_dtype
from tracker.errors import ModelError
from tracker.labels.labeller import Labeller
from tracker.labels.waiting import Vector, VectorTask, Waiting
from tracker.threads import Failures
from tracker.tracking.state import StreamTable


class TestVectors:
    """Crops and texts as vectors, for whoever looks for things by words."""

    def test_they_are_the_official_ones_and_of_one_space(self, clip: Clip, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPProcessor

        model = CLIPModel.from_pretrained(folder).eval()
        whole = CLIPProcessor(CLIPImageProcessor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
        crops, texts = [noise(1, 224), noise(2, 224)], ["a red car", "dog"]
        with torch.inference_mode():
            official = model(**whole(text=texts, images=crops, return_tensors="pt", padding=True))
        np.testing.assert_allclose(clip.picture_vectors(crops), official.image_embeds.numpy(), atol=1e-5)
        np.testing.assert_allclose(clip.text_vectors(texts), official.text_embeds.numpy(), atol=1e-5)

    def test_their_key_is_that_of_the_weights(self, settings: LabelsConfig, clip: Clip, tmp_path: Path) -> None:
        save_tiny_clip(tmp_path, seed=1)
        other = Clip.load(msgspec.structs.replace(settings, model=str(tmp_path)))
        assert Clip.load(settings).key == clip.key != other.key
        assert len(clip.key) == 64

    def test_in_bfloat16_they_are_the_same_but_for_rounding(self, settings: LabelsConfig, clip: Clip) -> None:
        half = Clip(*_loaded(str(settings.model)), settings.template, torch.bfloat16)
        crops = [noise(seed, 224) for seed in range(4)]
        alike_n = (clip.picture_vectors(crops) * half.picture_vectors(crops)).sum(1)
        assert alike_n.min() > 0.995
        assert half.key == clip.key

    @pytest.mark.parametrize(
        ("flags", "device", "dtype"),
        [
            ("flags : avx512f avx512_bf16 fma", "cpu", torch.bfloat16),
            ("flags : amx_bf16", "cpu", torch.bfloat16),
            ("flags : avx2 fma", "cpu", torch.float32),
            ("flags : avx512_bf16", "meta", torch.float32),
            (None, "cpu", torch.float32),
        ],
    )
    def test_bfloat16_is_for_processors_that_have_it(
        self, flags: str | None, device: str, dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        info = tmp_path / "cpuinfo"
        if flags is not None:
            info.write_text(flags)
        monkeypatch.setattr("tracker.engine.clip.CPU_INFO", info)
        assert picture_dtype(torch.device(device)) == dtype

    def test_they_come_beside_the_labels(self, labeller: Labeller, table: StreamTable) -> None:
        stream = stream_of(table, 1)
        labeller.tick()
        crop = np.full((8, 8, 3), 3, np.uint8)
        wanted: list[str | np.ndarray] = ["four", crop]
        assert ask_vectors(labeller, *wanted) == [("k" * 64, [4, 1]), ("k" * 64, [3, 1])]
        wait_until(lambda: labels(labeller, stream) == ["dog"])

    def test_what_fails_is_told_and_the_next_goes_on(self, labeller: Labeller, oracle: Oracle) -> None:
        oracle.trouble = RuntimeError("out of memory")
        assert ask_vectors(labeller, "one", "two") == [None, None]
        oracle.trouble = None
        assert ask_vectors(labeller, "one") == [("k" * 64, [3, 1])]

    def test_a_rest_follows_what_looks_took_and_who_waits_is_not_kept(
        self, labeller: Labeller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tracker.labels.labeller.SHARE", 1e-9)  # whatever it took: the longest rest
        crop = np.full((8, 8, 3), 3, np.uint8)
        assert ask_vectors(labeller, crop) == [("k" * 64, [3, 1])]
        told: list[Vector | None] = []
        assert labeller.embed_look("later", crop, told.append)
        assert ask_vectors(labeller, "four") == [("k" * 64, [4, 1])]
        assert not told
        labeller.stop()
        assert told == [None]

    def test_a_model_that_cannot_be_loaded_leaves_nobody_waiting(self, table: StreamTable) -> None:
        gate = threading.Event()

        def load(_: LabelsConfig) -> Oracle:
            assert gate.wait(PATIENCE_S)
            raise ModelError("there is none")

        labeller = Labeller(LabelsConfig(model="x", texts=["cat", "dog"]), table, Failures(), load=load)
        labeller.start()
        told: list[Vector | None] = []
        states = [labeller.state]
        assert labeller.embed("one", told.append)
        gate.set()
        wait_until(lambda: told)
        assert told == [None]
        assert [*states, labeller.state] == ["loading", "failed"]
        assert not labeller.embed("two", told.append)
        labeller.stop()

    def test_stopping_leaves_nobody_waiting(self, table: StreamTable) -> None:
        labeller = Labeller(LabelsConfig(model="x", texts=["cat", "dog"]), table, Failures())  # never started
        told: list[Vector | None] = []
        labeller.embed("one", told.append)
        labeller.stop()
        assert told == [None]

    def test_there_is_room_for_so_many(self) -> None:
        waiting = Waiting(vectors=2)
        tasks = [VectorTask(text, lambda _: None) for text in "abc"]
        assert [waiting.put_vector(task) for task in tasks] == [True, True, False]
        assert waiting.take(1).texts == tasks[:1]
        assert waiting.close() == tasks[1:2]
        assert not waiting.put_vector(tasks[2])


def ask_vectors(labeller: Labeller, *wanted: Any) -> list[Any]:
    """Keys and numbers of what was asked for, once all of it was answered."""
    told: dict[int, Vector | None] = {}
    for k, what in enumerate(wanted):
        then = partial(told.__setitem__, k)
        assert labeller.embed(what, then) if isinstance(what, str) else labeller.embed_look(k, what, then)
    wait_until(lambda: len(told) == len(wanted))
    return [found and (found.model, found.vector_c.tolist()) for _, found in sorted(told.items())]
