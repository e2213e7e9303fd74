"""An object's memory to bytes and back: what its next frame needs, as safetensors.

Kept are the conditioning frames, the memories of the last 6 frames, the pointers of the last 15, and the last
logits: the next logits are then equal to the last bit. Corrections cannot reach before a restart, so neither the
other logits nor the points of prompts are kept. Bytes may come from a stranger: nothing is taken before shapes,
types and numbers are those of the model that is to go on with them.
"""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import safetensors.torch
from msgspec import Meta, Struct
from safetensors import SafetensorError

from tracker.config.wording import printable
from tracker.engine.memory import (
    MAX_CONDITIONING,
    MEMORIES,
    POINTERS,
    FrameMemory,
    MemoryLayout,
    ObjectMemory,
    TensorKind,
)
from tracker.errors import BadRequest
from tracker.masks.types import ObjectMask

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER_BYTES = 2**16
MAX_FRAMES = MAX_CONDITIONING + POINTERS
MAX_VALUE = 1e5  # of any number in a tensor: far above what a model gives, far below what overflows
_HEADER_KEY = "tracker"

# Counters of what comes from elsewhere end here, far from where the file's own do: it can be saved for ever.
MAX_MOVED_STEP = 2**52
MAX_MOVED_PROMPTS = 2**30
_Frame = Annotated[int, Meta(ge=0, le=2**53)]
_Step = Annotated[int, Meta(ge=-(2**53), le=2**53)]


class ModelId(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose memories they are: another model cannot read them."""

    name: str
    image_size: int
    dtype: str
    sha256: str | None


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    frame: _Frame
    step: _Step
    score: Annotated[float, Meta(ge=0, le=1)]
    presence: float
    order: Annotated[int, Meta(ge=0, le=2**31)] | None
    tracked: bool


class OtherModel(BadRequest):
    """A well-formed memory of another model."""


_Entries = Annotated[list[_Entry], Meta(max_length=MAX_FRAMES)]


class _File(Struct, frozen=True, rename={"metadata": "__metadata__"}):
    """The JSON that a safetensors file begins with, as far as it is looked at here."""

    metadata: dict[str, str]


class _Header(Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    model: ModelId
    prompts: Annotated[int, Meta(ge=1, le=2**31)]
    past: _Entries
    ahead: _Entries


def slim(memory: ObjectMemory) -> ObjectMemory:
    """What the next frame needs of a memory. The tensors are shared, wherever they are."""
    memory = memory.committed()
    last = memory.past[-1].step
    past = tuple(
        _slim(e, last + 1 - e.step) for e in memory.past if e.conditioning or last + 1 - e.step <= POINTERS
    )
    return replace(memory, past=past, ahead=tuple(_slim(e, 0) for e in memory.ahead), staged=())


def dumps(memory: ObjectMemory, model: ModelId) -> bytes:
    """The bytes of a memory that `slim` gave. Copying it from a GPU takes a while: not in the main loop."""
    entries = [*memory.past, *memory.ahead]
    tensors = {
        f"{k}.{what}": t.to("cpu", copy=True) for k, e in enumerate(entries) for what, t in _tensors(e).items()
    }
    header = _Header(
        1, model, memory.prompts, [_record(e) for e in memory.past], [_record(e) for e in memory.ahead]
    )
    return safetensors.torch.save(tensors, {_HEADER_KEY: msgspec.json.encode(header).decode()})


def loads(data: bytes, model: ModelId, layout: MemoryLayout, conditioning_frames: int) -> ObjectMemory:
    """The memory that `dumps` wrote, on the CPU.

    It may come from where more conditioning frames are kept: steps are laid out for `conditioning_frames`, so that
    the first and the newest stay, as after a prompt.
    Raises BadRequest for bytes of anything else, OtherModel where they are another model's.
    """
    header = _header(data)
    if header.model != model:
        raise OtherModel(f"the memory is of {_shown(header.model)}; this daemon runs {_shown(model)}")
    _check_order(header)
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadRequest("the memory is damaged; export it again") from error
    _check_tensors(tensors, header, layout)
    entries = [*header.past, *header.ahead]
    made = [_frame_memory(entry, k, tensors) for k, entry in enumerate(entries)]
    split = len(header.past)
    past, ahead = tuple(made[:split]), tuple(made[split:])
    return ObjectMemory(past=past, ahead=ahead, prompts=header.prompts).capped(conditioning_frames)


def refuse_far_counts(memory: ObjectMemory) -> None:
    """Raise BadRequest for a memory from elsewhere that could not be saved any more once it has gone on."""
    steps = [abs(entry.step) for entry in (*memory.past, *memory.ahead)]
    if max(steps) > MAX_MOVED_STEP:
        raise BadRequest(f"the memory counts steps beyond {MAX_MOVED_STEP}; no object was followed for so long")
    if memory.prompts > MAX_MOVED_PROMPTS:
        raise BadRequest(f"the memory counts more than {MAX_MOVED_PROMPTS} prompts; nobody gave so many")


def _check_tensors(tensors: dict[str, Tensor], header: _Header, layout: MemoryLayout) -> None:
    """Raise BadRequest unless they are those that the header's frames have."""
    expected = _expected(header)
    odd = sorted(tensors.keys() ^ expected.keys())
    if odd:
        raise BadRequest(
            f"the memory's tensors are not those of its frames: {odd[0][:40]!r} is missing or too much"
        )
    for name, kind in expected.items():
        _check_tensor(name, tensors[name], getattr(layout, kind))


def max_bytes(layout: MemoryLayout) -> int:
    """No memory of such tensors takes more."""
    frame_nbytes = layout.memory_tm.nbytes + layout.pointer_c.nbytes
    return MAX_HEADER_BYTES + MAX_FRAMES * frame_nbytes + layout.logits_hw.nbytes


def moved(memory: ObjectMemory, device: str) -> ObjectMemory:
    """The memory on the device that goes on with it; logits stay on the host."""
    return replace(
        memory,
        past=tuple(_moved(e, device) for e in memory.past),
        ahead=tuple(_moved(e, device) for e in memory.ahead),
    )


def last_mask(memory: ObjectMemory) -> ObjectMask:
    """The mask on the newest frame of a memory that `slim` or `loads` gave."""
    mask = memory.past[-1].mask
    assert mask is not None
    return mask


def any_last_mask(data: bytes) -> ObjectMask:
    """The mask on the newest frame of a memory of whatever model. Raises BadRequest."""
    header = _header(data)
    _check_order(header)
    last = len(header.past) - 1
    try:
        logits_hw = safetensors.torch.load(data)[f"{last}.logits_hw"]
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadRequest("the memory is damaged; export it again") from error
    side = header.model.image_size // 4
    kind = TensorKind((side, side), "float32", 4)
    _check_tensor("last mask", logits_hw, kind)
    entry = header.past[last]
    return ObjectMask(logits_hw.numpy(), entry.score, entry.presence)


def _slim(entry: FrameMemory, age: int) -> FrameMemory:
    """An entry without what a frame `age` steps later does not look at."""
    needed = entry.conditioning or age <= MEMORIES
    return replace(
        entry,
        memory_tm=entry.memory_tm if needed else None,
        logits_hw=entry.logits_hw if age == 1 else None,
        points=None,
    )


def _moved(entry: FrameMemory, device: str) -> FrameMemory:
    return replace(
        entry,
        memory_tm=entry.memory_tm.to(device) if entry.memory_tm is not None else None,
        pointer_c=entry.pointer_c.to(device),
    )


def _tensors(entry: FrameMemory) -> dict[str, Tensor]:
    found = {"memory_tm": entry.memory_tm, "pointer_c": entry.pointer_c, "logits_hw": entry.logits_hw}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def _record(entry: FrameMemory) -> _Entry:
    score = min(1.0, max(0.0, entry.score))
    return _Entry(entry.frame, entry.step, score, entry.presence, entry.order, entry.tracked)


def _header(data: bytes) -> _Header:
    """The record of our own in the file's header. Raises BadRequest."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(MAX_HEADER_BYTES, len(data) - 8):
        raise BadRequest("the memory is no safetensors file")
    try:
        text = msgspec.json.decode(data[8 : 8 + size], type=_File).metadata[_HEADER_KEY]
        return msgspec.json.decode(text, type=_Header)
    except (ValueError, RecursionError, KeyError) as error:
        raise BadRequest("the memory's header is not one of tracker's; export it again") from error


def _check_order(header: _Header) -> None:
    """Raise BadRequest unless the frames are in order, and prompted as the engine keeps them."""
    entries = [*header.past, *header.ahead]
    orders = [e.order for e in entries if e.order is not None]
    if not header.past:
        raise BadRequest("the memory has no frame that was processed")
    if not 1 <= len(orders) <= MAX_CONDITIONING or len(set(orders)) != len(orders) or max(orders) >= header.prompts:
        raise BadRequest(
            f"the memory must have 1 to {MAX_CONDITIONING} prompted frames, each with a number of its own"
        )
    if any(e.order is None for e in header.ahead):
        raise BadRequest("the memory has frames ahead that were not prompted")
    if any(a.frame >= b.frame for a, b in pairwise(entries)) or any(
        a.step >= b.step for a, b in pairwise(header.past)
    ):
        raise BadRequest("the memory's frames and steps must grow from one to the next")
    if not all(math.isfinite(e.presence) for e in entries):
        raise BadRequest("the memory has a presence that is no finite number")


def _expected(header: _Header) -> dict[str, str]:
    """The tensors that frames like these have: names, and which field of a layout each has to be like."""
    expected = {}
    after = header.past[-1].step + 1
    for k, e in enumerate((*header.past, *header.ahead)):
        expected[f"{k}.pointer_c"] = "pointer_c"
        if e.order is not None or after - e.step <= MEMORIES:
            expected[f"{k}.memory_tm"] = "memory_tm"
    expected[f"{len(header.past) - 1}.logits_hw"] = "logits_hw"
    return expected


def _check_tensor(name: str, tensor: Tensor, kind: TensorKind) -> None:
    found = TensorKind.of(tensor)
    if found != kind:
        raise BadRequest(f"the memory's {name} is {found}; this model's is {kind}")
    if not bool((tensor.abs() <= MAX_VALUE).all()):  # false for what is not a number
        raise BadRequest(f"the memory's {name} has numbers that are not finite, or beyond {MAX_VALUE:g}")


def _frame_memory(entry: _Entry, k: int, tensors: dict[str, Tensor]) -> FrameMemory:
    return FrameMemory(
        frame=entry.frame,
        step=entry.step,
        memory_tm=tensors.get(f"{k}.memory_tm"),
        pointer_c=tensors[f"{k}.pointer_c"],
        logits_hw=tensors.get(f"{k}.logits_hw"),
        score=entry.score,
        presence=entry.presence,
        order=entry.order,
        tracked=entry.tracked,
    )


def _shown(model: ModelId) -> str:
    """What strangers call their model moves no terminal."""
    shown = f"{model.name[:64]} at {model.image_size} px, {model.dtype[:16]}"
    return printable(f"{shown}, weights {(model.sha256 or 'unknown')[:12]}")
