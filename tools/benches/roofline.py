"""How long a frame must take at least, and how near the engine comes to that.

FLOPs and bytes are those of the network as its authors wrote it, at full memory (7 memories, 16 pointers), counted
on tensors without contents: every product, convolution and attention reads its inputs and weights once and writes
its output once; norms, activations and additions count as part of them. Each part then takes the longer of what its
FLOPs need at the device's measured product rate and what its bytes need at its measured copy rate; `floor_ms` is
the sum. With --frames the engine is timed beside it; on a CPU all times are processor time over threads.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from benches.network import network, prompted
from benches.report import Row
from tracker.config import EngineConfig
from tracker.engine import forward
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.grouping import STEADY
from tracker.engine.layers.linear import Linear
from tracker.engine.memory import ObjectMemory
from tracker.engine.models import build as models
from tracker.engine.models import zoo


@dataclass
class Work:
    """FLOPs (a multiplication and an addition are two) and numbers read or written."""

    flops: int = 0
    numbers: int = 0

    def seconds(self, rates: "Rates", itemsize: int) -> float:
        return max(self.flops / rates.flops, self.numbers * itemsize / rates.bytes)


@dataclass(frozen=True)
class Rates:
    """What the device did in a second: FLOPs of a large product, bytes read and written by a large copy."""

    flops: float
    bytes: float


def run(args: argparse.Namespace, objects: int) -> Row:
    """One frame of one stream with so many objects."""
    device = models.pick_device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" or args.mode == "fast" else torch.float32
    rates = measured_rates(device, dtype, args.threads)
    parts = work(args.model, args.image_size, objects)
    floor_s = sum(part.seconds(rates, dtype.itemsize) for part in parts.values())
    row: Row = {
        "model": args.model,
        "image_size": blank(args.model, args.image_size).image_size,
        "objects": objects,
    }
    for name, part in parts.items():
        row[f"{name}_gflop"] = round(part.flops / 1e9, 1)
        row[f"{name}_mib"] = round(part.numbers * dtype.itemsize / 2**20)
    row |= {"dtype": str(dtype).removeprefix("torch."), "device": str(device), "threads": args.threads}
    row |= {"gflop_per_s": round(rates.flops / 1e9), "gib_per_s": round(rates.bytes / 2**30, 1)}
    row["floor_ms"] = round(floor_s * 1e3, 1)
    if args.frames:
        row["engine_ms"] = round(engine_s(args, objects) * 1e3, 1)
        row["over_floor"] = round(row["engine_ms"] / row["floor_ms"], 2)
    return row


@cache
def blank(name: str, image_size: int | None) -> Any:
    """The network without contents."""
    return models.network(zoo.config_path(name), image_size).to("meta")


def work(name: str, image_size: int | None, objects: int) -> dict[str, Work]:
    """Of each part of a frame."""
    net = blank(name, image_size)
    side, (memories, pointers) = net.sam_image_embedding_size, STEADY
    tokens = memories * side * side + pointers * (net.hidden_dim // net.mem_dim)
    memory_btm = torch.empty(objects, tokens, net.mem_dim, device="meta")
    full_b1hw = torch.empty(objects, 1, net.image_size, net.image_size, device="meta")
    image_1chw = torch.empty(1, 3, net.image_size, net.image_size, device="meta")
    one = forward.encode_image(net, image_1chw)
    fine, middle, coarse = (
        level.expand(objects, -1, -1, -1) for level in (one.fine_nchw, one.middle_nchw, one.coarse_nchw)
    )
    many = Features(fine, middle, coarse, one.position_1chw)
    pointer_tokens = tokens - memories * side * side
    return {
        "encoder": counted(lambda: forward.encode_image(net, image_1chw)),
        "attention": counted(lambda: forward.remember(net, many, memory_btm, memory_btm, pointer_tokens)),
        "decoder": counted(lambda: forward.segment(net, many, many.coarse_nchw, first=False)),
        "memory": counted(
            lambda: forward.encode_memory(net, many, full_b1hw, full_b1hw[:, 0, 0, 0], prompted=False)
        ),
    }


def counted(part: Callable[[], object]) -> Work:
    total = Work()
    with torch.no_grad(), _Attention(total), _Products(total):
        part()
    return total


class _Products(TorchDispatchMode):
    """Adds up products and convolutions, by torch's own formulas."""

    def __init__(self, total: Work) -> None:
        super().__init__()
        self._total = total

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (flops := flop_registry.get(func._overloadpacket)) is not None:
            self._total.flops += flops(*args, **(kwargs or {}), out_val=out)
            tensors = [t for t in tree_iter((args, kwargs, out)) if isinstance(t, Tensor)]
            self._total.numbers += sum(math.prod(t.shape) for t in tensors)
        return out


class _Attention(TorchFunctionMode):
    """Adds up attention as one operation whose scores stay on the chip."""

    def __init__(self, total: Work) -> None:
        super().__init__()
        self._total = total

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.nn.functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = args[:3]
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        scores = math.prod(q.shape[:-1]) * k.shape[-2]
        self._total.flops += 2 * scores * (q.shape[-1] + v.shape[-1])
        self._total.numbers += sum(math.prod(t.shape) for t in (q, k, v, out))
        return out


@cache
def measured_rates(device: torch.device, dtype: torch.dtype, threads: int) -> Rates:
    """The best of several tries each, on matrices of 2048 squared and on 256 MiB."""
    a, b = (torch.rand(2048, 2048, device=device).to(dtype) for _ in range(2))
    source = torch.rand(1 << 26, device=device)
    target = torch.empty_like(source)
    product = Linear(a)  # by the kernel that the engine takes
    flops = 2 * 2048**3 / min(_took(lambda: product(b), device, threads) for _ in range(10))
    return Rates(
        flops, 2 * source.nbytes / min(_took(lambda: target.copy_(source), device, threads) for _ in range(10))
    )


def _took(work: Callable[[], object], device: torch.device, threads: int) -> float:
    """Seconds on a GPU; on a CPU processor seconds over threads, which other programs do not lengthen."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        started_s = time.perf_counter()
        work()
        torch.cuda.synchronize(device)
        return time.perf_counter() - started_s
    started_s = time.process_time()
    work()
    return (time.process_time() - started_s) / threads


def engine_s(args: argparse.Namespace, objects: int) -> float:
    """The engine's median over `--frames` frames: encode a picture, and follow the objects at full memory."""
    net = network(args)
    engine = Engine(models.Model(args.model, net), EngineConfig(mode=args.mode, fill_hole_area=0))
    if net.device.type == "cuda":
        engine.warm_up()
    image = torch.rand(1, 3, net.image_size, net.image_size, device=net.device)
    features = engine.encode_tensor(image)
    tracks = [grown_up(engine, prompted(engine, features, 0, k), features) for k in range(objects)]
    frame = 1 + STEADY.pointers

    def step() -> None:
        engine.propagate([(track, 0, frame) for track in tracks], engine.encode_tensor(image))

    step()
    return statistics.median(_took(step, net.device, args.threads) for _ in range(args.frames))


def grown_up(engine: Engine, track: ObjectMemory, features: Features) -> ObjectMemory:
    """The object with its memory full of its first frame: what is remembered does not change what a step costs."""
    ((track, _),) = engine.propagate([(track, 0, 1)], features)
    first = track.past[-1]
    for frame in range(2, 1 + STEADY.pointers):
        track = track.advanced(replace(first, frame=frame, step=frame), engine.config.history_frames)
    return track
