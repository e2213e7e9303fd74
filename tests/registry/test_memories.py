"""An object's memory survives its bytes to the last bit, and nothing else is taken for one."""

from collections.abc import Callable

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch

from tracker.config import EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import CONDITIONING, ObjectMemory
from tracker.engine.models.build import load_model
from tracker.errors import BadRequest
from tracker.images.types import Rgb
from tracker.protocol.prompt import Prompt
from tracker.registry import memories
from tracker.registry.memories import ModelId, OtherModel

SIZE_WH = (160, 120)


def picture(index: int) -> Rgb:
    """A bright square that goes right, on noise."""
    rgb_hwc = np.random.default_rng(index).integers(40, 80, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    rgb_hwc[40:80, 20 + 2 * index : 60 + 2 * index] = 220
    return Rgb(rgb_hwc)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(load_model(ModelConfig(name="nano", device="cpu", image_size=128)), EngineConfig(threads=2))


@pytest.fixture(scope="module")
def model(engine: Engine) -> ModelId:
    return ModelId(**{k: v for k, v in engine.describe().items() if k != "device"})


def follow(engine: Engine, memory: ObjectMemory, frames: range) -> tuple[ObjectMemory, np.ndarray]:
    """Its memory after `frames`, and their logits."""
    logits = []
    for index in frames:
        ((memory, mask),) = engine.propagate([(memory, 0, index)], engine.encode([picture(index)]))
        logits.append(mask.logits_hw)
    return memory, np.array(logits)


def prompted(engine: Engine, memory: ObjectMemory, index: int, box: tuple[int, ...]) -> ObjectMemory:
    prompt = Prompt(box_xyxy=np.array(box, np.float32), replace=True)
    return engine.prompt(memory, engine.encode([picture(index)]), 0, index, prompt, SIZE_WH)[0]


def just_prompted(engine: Engine) -> ObjectMemory:
    return prompted(engine, ObjectMemory(), 0, (20, 40, 60, 80))


def followed(engine: Engine) -> ObjectMemory:
    return follow(engine, just_prompted(engine), range(1, 21))[0]


def corrected(engine: Engine) -> ObjectMemory:
    """Corrected on its newest frame and not followed since."""
    return prompted(engine, followed(engine), 20, (60, 40, 100, 80))


def led_back(engine: Engine) -> ObjectMemory:
    """Corrected in the past, with a prompt of a later frame still ahead."""
    memory = follow(engine, corrected(engine), range(21, 23))[0]
    return follow(engine, prompted(engine, memory.rewind(18), 18, (56, 40, 96, 80)), range(19, 20))[0]


@pytest.mark.parametrize("make", [just_prompted, followed, corrected, led_back], ids=lambda f: f.__name__)
def test_the_next_logits_are_equal_to_the_last_bit(
    engine: Engine, model: ModelId, make: Callable[[Engine], ObjectMemory]
) -> None:
    memory = make(engine)
    data = memories.dumps(memories.slim(memory), model)
    restored = memories.moved(memories.loads(data, model, engine.memory_layout(), CONDITIONING), "cpu")
    _, expected = follow(engine, memory, range(100, 120))
    _, logits = follow(engine, restored, range(100, 120))
    np.testing.assert_array_equal(logits, expected)


def test_no_more_conditioning_frames_are_taken_than_are_kept_here(engine: Engine, model: ModelId) -> None:
    """From a daemon that keeps 16: steps here are laid out for 4, and have no room for more."""
    generous = Engine(engine.model, EngineConfig(threads=2, conditioning_frames=16))
    memory = just_prompted(generous)
    for index in range(1, 8):
        memory = prompted(generous, follow(generous, memory, range(index, index + 1))[0], index, (30, 40, 70, 80))
    data = memories.dumps(memories.slim(memory), model)
    for kept, orders in ((16, [0, 1, 2, 3, 4, 5, 6, 7]), (CONDITIONING, [0, 5, 6, 7])):
        restored = memories.loads(data, model, engine.memory_layout(), kept)
        assert [e.order for e in (*restored.past, *restored.ahead) if e.conditioning] == orders
        again, logits = follow(engine, memories.moved(restored, "cpu"), range(8, 12))
        assert np.isfinite(logits).all()
        assert len(again.bank(12, again.next_step()).conditioning) == len(orders)


def test_what_is_kept_is_small_and_shows_the_last_mask(engine: Engine, model: ModelId) -> None:
    memory = followed(engine)
    data = memories.dumps(memories.slim(memory), model)
    assert len(data) < memories.max_bytes(engine.memory_layout())
    last = memory.past[-1]
    mask = memories.last_mask(memories.loads(data, model, engine.memory_layout(), CONDITIONING))
    np.testing.assert_array_equal(mask.logits_hw, last.logits_hw)
    assert (mask.score, mask.presence) == (last.score, last.presence)


def test_a_memory_of_another_model_is_told_apart(engine: Engine, model: ModelId) -> None:
    data = memories.dumps(memories.slim(followed(engine)), msgspec.structs.replace(model, sha256="0" * 64))
    with pytest.raises(OtherModel, match=r"weights 000000000000; this daemon runs nano at 128 px"):
        memories.loads(data, model, engine.memory_layout(), CONDITIONING)


@pytest.fixture(scope="module")
def good(engine: Engine, model: ModelId) -> bytes:
    return memories.dumps(memories.slim(followed(engine)), model)


Tensors = dict[str, torch.Tensor]


def tampered(good: bytes, header: dict[str, object] | None = None, tensors: Tensors | None = None) -> bytes:
    """The good file with other values in its header, or other tensors."""
    size = int.from_bytes(good[:8], "little")
    record = msgspec.json.decode(msgspec.json.decode(good[8 : 8 + size])["__metadata__"]["tracker"])
    own = {"tracker": msgspec.json.encode(record | (header or {})).decode()}
    return safetensors.torch.save({**safetensors.torch.load(good), **(tensors or {})}, own)


def entries(good: bytes) -> list[dict[str, object]]:
    size = int.from_bytes(good[:8], "little")
    past: list[dict[str, object]] = msgspec.json.decode(
        msgspec.json.decode(good[8 : 8 + size])["__metadata__"]["tracker"]
    )["past"]
    return past


BAD_TENSORS = {
    "another shape": ("0.memory_tm", lambda t: t[:-1].clone(), "bfloat16"),
    "another type": ("0.memory_tm", lambda t: t.float(), "float32"),
    "not a number": ("0.pointer_c", lambda t: t * float("nan"), "not finite"),
    "infinite": ("1.pointer_c", lambda t: t + float("inf"), "not finite"),
    "far too large": ("15.logits_hw", lambda t: t + 1e30, "beyond"),
    "too much": ("99.memory_tm", None, "missing or too much"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_that_no_model_gave_are_refused(engine: Engine, model: ModelId, good: bytes, name: str) -> None:
    key, spoil, says = BAD_TENSORS[name]
    tensors = safetensors.torch.load(good)
    spoilt = spoil(tensors[key]) if spoil else torch.zeros(1)
    with pytest.raises(BadRequest, match=says):
        memories.loads(tampered(good, tensors={key: spoilt}), model, engine.memory_layout(), CONDITIONING)


def test_headers_that_no_engine_wrote_are_refused(engine: Engine, model: ModelId, good: bytes) -> None:
    past = entries(good)
    bad: dict[str, tuple[dict[str, object], str]] = {
        "no frames": ({"past": []}, "no frame"),
        "not in order": ({"past": past[::-1]}, "must grow"),
        "twice": ({"past": past + past[-1:]}, "must grow"),
        "too many": ({"past": past * 3}, "not one of tracker's"),
        "nothing prompted": ({"past": [{**e, "order": None} for e in past]}, "prompted frames"),
        "all prompted": (
            {"past": [{**e, "order": k} for k, e in enumerate(past)], "prompts": 99},
            "missing or too much",
        ),
        "of no prompt": ({"prompts": 1, "past": [{**past[0], "order": 1}, *past[1:]]}, "prompted frames"),
        "a frame below 0": ({"past": [{**past[0], "frame": -1}, *past[1:]]}, "not one of tracker's"),
        "a huge step": ({"past": [*past[:-1], {**past[-1], "step": 2**63}]}, "not one of tracker's"),
        "unknown keys": ({"surprise": 1}, "not one of tracker's"),
        "another format": ({"format": 2}, "not one of tracker's"),
    }
    for header, says in bad.values():
        with pytest.raises(BadRequest, match=says):
            memories.loads(tampered(good, header), model, engine.memory_layout(), CONDITIONING)


def test_bytes_of_anything_else_are_refused(engine: Engine, model: ModelId, good: bytes) -> None:
    foreign = safetensors.torch.save({"weight": torch.zeros(3)})
    lies = (2**63 - 1).to_bytes(8, "little")
    for data in (
        b"",
        b"1234567",
        good[:9],
        good[:-1],
        good + b"x",
        lies + good[8:],
        foreign,
        b"\0" * 4096,
        b"\xff" * 99,
    ):
        with pytest.raises(BadRequest):
            memories.loads(data, model, engine.memory_layout(), CONDITIONING)


def test_slim_keeps_what_the_bank_of_the_next_frame_looks_at(engine: Engine) -> None:
    memory = follow(engine, followed(engine), range(21, 60))[0]
    kept = memories.slim(memory)
    assert len(kept.past) == 1 + 15
    assert sum(e.memory_tm is not None for e in kept.past) == 1 + 6
    assert sum(e.logits_hw is not None for e in kept.past) == 1


def test_choosing_what_is_kept_copies_nothing_from_a_device(engine: Engine) -> None:
    """The main loop chooses, now and then of all objects, and would wait for each copy."""
    elsewhere = memories.moved(followed(engine), "meta")  # whose numbers cannot be had
    kept = memories.slim(elsewhere)
    assert kept.past[-1].memory_tm is elsewhere.past[-1].memory_tm
    assert kept.past[0].pointer_c is elsewhere.past[0].pointer_c


def test_masks_stay_on_the_host(engine: Engine) -> None:
    """Where they are asked for: by records, pictures and matching."""
    memory = followed(engine)
    last = memories.moved(memory, "meta").past[-1]
    assert last.mask is not None
    np.testing.assert_array_equal(last.mask.logits_hw, memory.past[-1].logits_hw)
