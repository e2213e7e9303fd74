"""Guessing labels by CLIP: the real code on a tiny randomly initialised model, and beside a whole daemon."""

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import msgspec
import numpy as np
import pytest
import torch

from helpers.clips import SIDE, save_tiny_clip
from helpers.fakes import FakeStream, grey_frame
from helpers.tracking import blobs, configuration, serving, wait_until
from tracker import config
from tracker.config import LabelsConfig, StreamConfig
from tracker.engine.clip import Clip, _loaded, picture_dtype, source_of
from tracker.engine.memory import ObjectMemory
from tracker.errors import ConfigError, ModelError
from tracker.images.imaging import decode
from tracker.labels.check import check
from tracker.labels.crops import GREY, masked_crop
from tracker.labels.labeller import Labeller, guess_of
from tracker.labels.waiting import LabelTask, Taken, Vector, VectorTask, Waiting
from tracker.masks.rle import rle_decode
from tracker.masks.types import ObjectMask
from tracker.threads import Failures
from tracker.tracking.state import StreamTable, TrackedObject, TrackedStream

TEXTS = ("cat", "dog", "forklift", "a person on a bicycle", "box")
PATIENCE_S = 30.0


@pytest.fixture(scope="module", autouse=True)
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
def settings(folder: Path) -> LabelsConfig:
    return LabelsConfig(model=str(folder), device="cpu", min_confidence=0, texts=list(TEXTS))


@pytest.fixture(scope="module")
def clip(settings: LabelsConfig) -> Clip:
    return Clip.load(settings)


def noise(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


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


ON = "labels: {model: clip-vit-base-patch32, texts: [cat, dog]}\n"


class TestCheck:
    @pytest.mark.parametrize(
        ("text", "problems"),
        [
            ("", []),
            (ON, []),
            ("labels: {model: clip-vit-base-patch32}\nstreams: {a: {url: x, labels: [cat, dog]}}", []),
            ("labels: {model: clip-vit-base-patch32}\ncontrol: {allow_sources: ['rtsp://*/']}", []),
            (ON + "streams: {a: {url: x, labels: []}}", []),
            ("labels: {model: clip-vit-base-patch32}\npersist: {dir: state}", []),  # to search by words
            ("labels: {model: clip-vit-base-patch32}", ["labels.texts: there are none, and no stream"]),
            ("labels: {texts: [cat, dog]}", ["labels.texts: guessing labels is off"]),
            ("streams: {a: {url: x, labels: [cat, dog]}}", ["streams.a.labels: guessing labels is off"]),
            ("labels: {model: clip-vit-base-patch32, texts: [cat]}", ["labels.texts: one text alone"]),
            (
                "labels: {model: clip-vit-base-patch32, texts: [cat, dog, cat]}",
                ["labels.texts: 'cat' stands twice"],
            ),
            (ON + "streams: {a: {url: x, labels: [cat]}}", ["streams.a.labels: one text alone"]),
            (ON.replace("}", ", template: a photo}"), ["labels.template: must hold {} once"]),
            (
                "labels: {model: /none, texts: [cat, dog], device: tpu}",
                ["there is no folder /none", "labels.device: 'tpu'"],
            ),
        ],
    )
    def test_settings(self, text: str, problems: list[str]) -> None:
        assert_problems(text, problems)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "config.json"),
            ("{", "config.json"),
            ('{"model_type": "bert"}', "of type 'bert'"),
            ("[]", "of type None"),
        ],
    )
    def test_folders(self, content: str | None, says: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        assert_problems(ON.replace("clip-vit-base-patch32", str(tmp_path)), [says])

    def test_without_transformers(self, folder: Path) -> None:
        """Nothing imports it unasked; where it is wanted and missing, one line names the remedy."""
        text = ON.replace("clip-vit-base-patch32", str(folder))
        script = (
            "import sys\n"
            "from tracker import config, errors\n"
            "from tracker.labels import check, labeller\n"
            "assert 'transformers' not in sys.modules\n"
            "sys.modules['transformers'] = None\n"
            "try:\n"
            f"    check.check(config.parse({text!r}))\n"
            "except errors.ConfigError as error:\n"
            "    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout == "labels need the package transformers: pip install transformers\n"

    def test_without_transformers_when_it_is_loaded(
        self, settings: LabelsConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ModelError, match="pip install transformers"):
            Clip.load(settings)


def assert_problems(text: str, problems: list[str]) -> None:
    try:
        check(config.parse(text))
        found = []
    except ConfigError as error:
        found = error.problems
    assert len(found) == len(problems), found
    for expected, problem in zip(problems, found, strict=True):
        assert expected in problem


class TestCrops:
    def test_the_object_stays_sharp_and_its_surroundings_are_blurred(self) -> None:
        picture = noise(1, 100)
        mask = np.zeros((100, 100), np.bool_)
        mask[30:70, 30:70] = True
        crop = masked_crop(picture, mask, 48)  # 40 pixels and a tenth more on each side
        assert crop is not None
        np.testing.assert_array_equal(crop[4:44, 4:44], picture[30:70, 30:70])
        assert crop[:3].std() < picture[26:29, 26:74].std() / 4

    def test_another_mask_is_another_picture(self, clip: Clip) -> None:
        picture = noise(1, 100)
        square, ring = np.zeros((2, 100, 100), np.bool_)
        square[30:70, 30:70] = True
        ring |= square
        ring[35:65, 35:65] = False
        one, other = (masked_crop(picture, mask, SIDE) for mask in (square, ring))
        assert one is not None
        assert other is not None
        first, second = clip.likely([one, other], [TEXTS, TEXTS])
        assert np.abs(first - second).max() > 1e-3

    @pytest.mark.parametrize("side", [16, 64])
    def test_beyond_the_frame_it_is_grey(self, side: int) -> None:
        picture = np.full((30, 40, 3), 255, np.uint8)
        mask = np.zeros((30, 40), np.bool_)
        mask[0:20, 38:40] = True  # in the corner at the right, 20 high
        crop = masked_crop(picture, mask, side)
        assert crop is not None
        assert crop.shape == (side, side, 3)
        np.testing.assert_allclose(crop[side // 2, -1], GREY, atol=2)

    def test_nothing_of_an_empty_mask(self) -> None:
        assert masked_crop(noise(1), np.zeros((SIDE, SIDE), np.bool_), SIDE) is None


@pytest.mark.parametrize(
    ("min_confidence", "label", "confidence", "runners_up"),
    [
        (0.5, "c", 0.6, [("a", 0.2), ("e", 0.1), ("b", 0.06)]),
        (0.7, None, 0.6, [("c", 0.6), ("a", 0.2), ("e", 0.1)]),
    ],
)
def test_guesses(min_confidence: float, label: str | None, confidence: float, runners_up: list[Any]) -> None:
    guess = guess_of(("a", "b", "c", "d", "e"), np.array([0.2, 0.06, 0.6, 0.04, 0.1], np.float32), min_confidence)
    assert (guess.label, guess.confidence, guess.runners_up) == (label, confidence, runners_up)


def test_a_guess_between_two() -> None:
    assert guess_of(("a", "b"), np.array([0.4, 0.6], np.float32), 0.5).runners_up == [("a", 0.4)]


# ------------------------------------------------------------------------------------------- beside the engine


def stream_of(
    table: StreamTable, objects: int = 1, labels: list[str] | None = None, name: str = "cam"
) -> TrackedStream:
    source = FakeStream(name, StreamConfig(url="x", labels=labels))
    source.see(0)
    stream = TrackedStream(source)  # type: ignore[arg-type]
    table.add(stream)
    for number in range(1, objects + 1):
        mask = ObjectMask(np.full((16, 16), 5, np.float32), 0.9, 5.0)
        stream.add(TrackedObject(number, stream, ObjectMemory(), mask, 0, (64, 48)))
    return stream


class Oracle:
    """Stands in for `Clip`: the last text it is. `gate` keeps it from answering."""

    side = 8
    key = "k" * 64

    def __init__(self) -> None:
        self.batches: list[list[tuple[str, ...]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.trouble: Exception | None = None

    def likely(self, crops: list[Any], texts: list[tuple[str, ...]]) -> list[Any]:
        assert all(crop.shape == (8, 8, 3) for crop in crops)
        self.batches.append(texts)
        assert self.gate.wait(PATIENCE_S)
        if self.trouble is not None:
            raise self.trouble
        return [np.eye(len(t), dtype=np.float32)[-1] for t in texts]

    def picture_vectors(self, crops: list[Any]) -> Any:
        return self.vectors([crop.mean() for crop in crops])

    def text_vectors(self, texts: list[str]) -> Any:
        return self.vectors([len(text) for text in texts])

    def vectors(self, values: list[Any]) -> Any:
        assert self.gate.wait(PATIENCE_S)
        if self.trouble is not None:
            raise self.trouble
        return np.array([[value, 1] for value in values], np.float32)


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


def labels(labeller: Labeller, stream: TrackedStream) -> list[str | None]:
    labeller.take_guesses()
    return [obj.guess.label if obj.guess else None for obj in stream.objects.values()]


class TestLabeller:
    def test_new_objects_at_once_all_in_one_batch_and_then_rarely(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        first = stream_of(table, 1)
        labeller.tick()
        wait_until(lambda: oracle.batches)
        second = stream_of(table, 3, name="two", labels=["van", "bus"])
        labeller.tick()
        oracle.gate.set()
        wait_until(lambda: labels(labeller, second) == ["bus"] * 3)
        assert labels(labeller, first) == ["dog"]
        for _ in range(3):
            labeller.tick()
        first.objects[1].guess_due_s = 0
        labeller.tick()
        wait_until(lambda: len(oracle.batches) == 3)
        assert oracle.batches == [[("cat", "dog")], [("van", "bus")] * 3, [("cat", "dog")]]

    def test_no_texts_no_guess(self, labeller: Labeller, oracle: Oracle, table: StreamTable) -> None:
        stream_of(table, 1, labels=[])
        seen = stream_of(table, 1, name="two")
        labeller.tick()
        wait_until(lambda: labels(labeller, seen) == ["dog"])
        assert oracle.batches == [[("cat", "dog")]]

    def test_what_is_lost_is_looked_at_when_it_is_back(self, labeller: Labeller, table: StreamTable) -> None:
        stream = stream_of(table, 2)
        lost = stream.objects[1]
        there, lost.mask = lost.mask, ObjectMask(lost.mask.logits_hw, 0.1, -5.0)
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == [None, "dog"])
        lost.mask = there
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog", "dog"])

    def test_the_engine_never_waits_and_what_waits_is_bounded_and_fresh(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        stream = stream_of(table, 40)
        labeller.tick()
        wait_until(lambda: oracle.batches)  # the thread is stuck in its first batch from here on
        for index in range(1, 5):
            stream.source.see(index)  # type: ignore[attr-defined]
            for obj in stream.objects.values():
                obj.frame, obj.guess_due_s = index, 0
            labeller.tick()
        waiting = list(labeller._waiting._objects.values())
        assert len(waiting) == 16
        assert {task.frame.index for task in waiting} == {4}
        assert len(oracle.batches) == 1
        oracle.gate.set()

        def all_guessed() -> bool:
            for obj in stream.objects.values():  # as after AGAIN_S
                obj.guess_due_s = 0 if not obj.guess else obj.guess_due_s
            labeller.tick()
            return labels(labeller, stream) == ["dog"] * 40

        wait_until(all_guessed)
        assert max(map(len, oracle.batches)) == 8

    def test_a_frame_that_is_gone_is_no_trouble(self, labeller: Labeller, table: StreamTable) -> None:
        stream = stream_of(table)
        stream.objects[1].frame = 7
        labeller.tick()
        stream.objects[1].frame = 0
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog"])

    def test_trouble_is_told_and_does_not_last(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable, caplog: pytest.LogCaptureFixture
    ) -> None:
        oracle.trouble = RuntimeError("out of memory")
        stream = stream_of(table)
        labeller.tick()
        wait_until(lambda: "labels failed" in caplog.text)
        assert "out of memory" in caplog.text
        oracle.trouble = None
        labeller.take_guesses()
        assert stream.objects[1].guess_due_s > time.monotonic() + 100  # not again and again: after `every_s`
        stream.objects[1].guess_due_s = 0
        labeller.tick()
        wait_until(lambda: labels(labeller, stream) == ["dog"])

    def test_a_guess_about_what_was_corrected_or_removed_since_is_dropped(
        self, labeller: Labeller, oracle: Oracle, table: StreamTable
    ) -> None:
        oracle.gate.clear()
        stream = stream_of(table, 1)
        labeller.tick()
        wait_until(lambda: oracle.batches)
        other = stream_of(table, 3, name="two")
        gone, corrected = other.objects[1], other.objects[2]
        labeller.tick()
        other.remove(gone)
        corrected.corrected(grey_frame(0), corrected.memory, corrected.mask)
        oracle.gate.set()
        wait_until(lambda: labels(labeller, other) == [None, "dog"])
        labeller.tick()  # what was corrected is looked at again, at once
        wait_until(lambda: labels(labeller, other) == ["dog", "dog"])
        assert not gone.guess
        assert labels(labeller, stream) == ["dog"]

    def test_stopping_leaves_what_waits(self, oracle: Oracle, table: StreamTable) -> None:
        labeller = Labeller(LabelsConfig(model="x", texts=["cat", "dog"]), table, Failures(), load=lambda _: oracle)
        labeller.start()
        labeller.stop()
        assert not labeller._thread.is_alive()

    def test_off_it_has_no_thread(self, table: StreamTable) -> None:
        labeller = Labeller(LabelsConfig(), table, Failures())
        labeller.start()
        stream_of(table)
        labeller.tick()
        assert not labeller._thread.is_alive()
        labeller.stop()


def test_waiting_keeps_the_newest_of_each_and_of_all() -> None:
    stream = stream_of(StreamTable(), 3)
    waiting = Waiting(objects=2)
    tasks = [
        LabelTask(stream.objects[i], 0, grey_frame(n), stream.objects[i].mask, ())
        for n, i in enumerate([1, 2, 1, 3])
    ]
    for task in tasks:
        waiting.put(task)
    assert waiting.take(8).objects == tasks[2:]
    waiting.put(tasks[0])
    waiting.close()
    assert not waiting.take(8)


def test_what_has_time_waits_while_clip_rests() -> None:
    stream = stream_of(StreamTable(), 2)
    new, again = (
        LabelTask(stream.objects[i], 0, grey_frame(0), stream.objects[i].mask, (), has_time=i == 2) for i in (1, 2)
    )
    text, look = (VectorTask(what, lambda _: None) for what in ("a dog", np.zeros((8, 8, 3), np.uint8)))
    waiting = Waiting()
    waiting.rest(3600)
    assert waiting.put_look("dog", look)
    waiting.put(again)
    waiting.put(new)
    assert waiting.put_vector(text)
    assert waiting.take(8) == Taken([text], [], [new])
    assert waiting.close() == [look]
    waiting = Waiting()
    waiting.rest(0.02)
    waiting.put(again)
    assert waiting.take(8) == Taken([], [], [again])  # once it has rested


def test_of_an_objects_looks_the_newest_waits_in_the_place_of_the_first() -> None:
    told: list[str] = []

    def task(name: str) -> VectorTask:
        return VectorTask(np.zeros((8, 8, 3), np.uint8), lambda _: told.append(name))

    waiting = Waiting(looks=2)
    first, other, newer = task("first"), task("other"), task("newer")
    assert [waiting.put_look("a", first), waiting.put_look("b", other), waiting.put_look("a", newer)] == [True] * 3
    assert told == ["first"]  # that nobody will make it
    assert not waiting.put_look("c", task("no room"))
    assert waiting.take(1).looks == [newer]
    assert waiting.take(1).looks == [other]


# -------------------------------------------------------------------------------------------- the whole daemon


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("video") / "blobs.mp4", frames=20)


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


def arrived(listed: dict[str, Any], frame: int) -> bool:
    (record,) = listed["objects"]
    return "guess" in record and record["frame"] == frame


class TestDaemon:
    def test_a_guess_arrives(self, video: Path, settings: LabelsConfig, clip: Clip) -> None:
        """On the last frame of a file, so that nothing moves between the guess and what it is compared with."""
        served = configuration(
            labels={**msgspec.to_builtins(settings), "every_s": 0.2},
            publish={"masks": "rle"},
            streams={"cam": {"url": str(video), "pace": "all"}},
        )
        with serving(served) as talk:
            talk.wait_for_frame(19)
            added = talk.ask("objects.add", stream="cam", points=[[120, 90]], label="mine")
            assert "guess" not in added
            wait_until(lambda: arrived(talk.ask("objects.list"), frame=19))
            (record,) = talk.ask("objects.list")["objects"]
            picture = decode(talk.ask("frames.get", stream="cam", frame=record["frame"], format="png")["data"])
            talk.ask("objects.update", stream="cam", object=1, label=None)
            drawn = talk.ask("frames.get", stream="cam", frame=record["frame"], format="png", overlay=True)["data"]
            talk.ask("objects.update", stream="cam", object=1, label=record["guess"]["label"])
            named = talk.ask("frames.get", stream="cam", frame=record["frame"], format="png", overlay=True)["data"]
        crop = masked_crop(picture, rle_decode(record["mask"]["counts"], tuple(record["mask"]["size"])), SIDE)
        assert crop is not None
        expected = guess_of(TEXTS, clip.likely([crop], [TEXTS])[0], 0)
        guess = record["guess"]
        assert (record["label"], guess["label"]) == ("mine", expected.label)
        assert drawn == named  # where there is no label, the guess is written
        assert guess["confidence"] == pytest.approx(expected.confidence, abs=0.01)
        assert [text for text, _ in guess["runners_up"]] == [text for text, _ in expected.runners_up]

    def test_it_is_published_too(self, video: Path, settings: LabelsConfig) -> None:
        streams = {"cam": {"url": str(video), "loop": True, "labels": ["one", "two"]}}
        with serving(configuration(labels=msgspec.to_builtins(settings), streams=streams)) as talk:
            talk.subscribe("tracks/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[[120, 90]])
            message = talk.receive_until(lambda m: m["objects"] and "guess" in m["objects"][0])
            guess = message["objects"][0]["guess"]
            assert {guess["label"], guess["runners_up"][0][0]} == {"one", "two"}
            assert guess["confidence"] + guess["runners_up"][0][1] == pytest.approx(1, abs=1e-3)

    def test_a_model_that_is_not_there_is_told_and_tracking_goes_on(
        self, video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        streams = {"cam": {"url": str(video), "loop": True}}
        wrong = {"model": str(tmp_path / "none"), "texts": ["cat", "dog"]}
        with caplog.at_level(logging.ERROR), serving(configuration(labels=wrong, streams=streams)) as talk:
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[[120, 90]])
            wait_until(
                lambda: "labelling is off, tracking goes on: labels.model: there is no folder" in caplog.text
            )
            age = talk.ask("objects.list")["objects"][0]["age"]
            wait_until(lambda: talk.ask("objects.list")["objects"][0]["age"] > age)
            assert "guess" not in talk.ask("objects.list")["objects"][0]

    def test_texts_of_a_new_stream_are_refused_where_there_is_no_model(self, video: Path) -> None:
        with serving(configuration(control={"allow_sources": [str(video)]})) as talk:
            code, message = talk.refused("streams.add", stream="cam", url=str(video), labels=["cat", "dog"])
            assert (code, message[:32]) == ("bad_request", "labels: guessing labels is off; ")
            assert talk.ask("streams.list") == {"streams": []}
