"""Steps and the image encoder, recorded once and replayed: a GPU then gets one command where it got hundreds.

What is recorded is a function of tensors that stay where they are: a replay copies its inputs there, runs, and
leaves its outputs where they were before. Steps of other shapes run as they are.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from tracker.engine.device import urgent_stream
from tracker.engine.forward import Features
from tracker.engine.grouping import Depth, StepSize

# (objects, pictures) that are recorded in each depth, largest first: the smaller ones then find memory to share.
SIZES = [(objects, pictures) for objects in (16, 8, 4, 2, 1) for pictures in dict.fromkeys((objects, 1))]
# Numbers of pictures that the image encoder is recorded for.
PICTURES = (4, 2, 1)


class Inputs(NamedTuple):
    """What a step takes, for n pictures and b objects with m memories and p pointers each.

    `index_bk` int64 [b, 1 + 2 m + p]: rows as `grouping.Rows` has them. `pointers_bpc` float32. `mask_bk` float32
    [b, m + p]: 0 for what an object looks at and -inf for padding; None: there is no padding.
    """

    fine_nchw: Tensor
    middle_nchw: Tensor
    coarse_nchw: Tensor
    position_1chw: Tensor
    index_bk: Tensor
    pointers_bpc: Tensor
    mask_bk: Tensor | None = None

    @property
    def memories(self) -> int:
        """m"""
        return (self.index_bk.shape[1] - 1 - self.pointers_bpc.shape[1]) // 2

    def head(self, objects: int, pictures: int) -> "Inputs":
        """The same for the first objects and pictures."""
        return self._replace(
            fine_nchw=self.fine_nchw[:pictures],
            middle_nchw=self.middle_nchw[:pictures],
            coarse_nchw=self.coarse_nchw[:pictures],
            index_bk=self.index_bk[:objects],
            pointers_bpc=self.pointers_bpc[:objects],
            mask_bk=None if self.mask_bk is None else self.mask_bk[:objects],
        )


class Outputs(NamedTuple):
    """What a step gives: logits float32 [b, h4, w4], predicted IoU and object-score logit float32 [b], pointer
    float32 [b, c], memory bfloat16 [b, h * w, m], and the memory's keys and values [b, k]."""

    logits_bhw: Tensor
    score_b: Tensor
    presence_b: Tensor
    pointer_bc: Tensor
    memory_btm: Tensor
    projected_bk: Tensor

    def head(self, objects: int) -> "Outputs":
        """The first objects' own copy, but for what is projected: that is for use before the next step."""
        *kept, projected = (out[:objects] for out in self)
        return Outputs._make((*(out.clone() for out in kept), projected))


Function = Callable[[Inputs], Outputs]

Out = TypeVar("Out", bound=tuple[Tensor, ...])


class Recorder(Protocol):
    """Runs a function; returns how to run it again, and the outputs, which each run writes anew."""

    def __call__(self, function: Callable[[], Out]) -> tuple[Callable[[], None], Out]: ...


class Replay:
    """A step recorded on `inputs`, which stay its own."""

    def __init__(self, function: Function, inputs: Inputs, record: Recorder) -> None:
        self._inputs = inputs
        self._again, self._outputs = record(lambda: function(inputs))

    def __call__(self, inputs: Inputs) -> Outputs:
        """Run on no more objects and pictures than were recorded; the rows beyond are cut off."""
        for held, new in zip(self._inputs, inputs, strict=True):
            if held is not None and new is not None:
                _overwrite(held, new)
        self._again()
        return self._outputs.head(len(inputs.index_bk))

    def seconds(self) -> float:
        """What one run takes: the fastest of three."""
        return min(_seconds(self._again, self._outputs.score_b.device) for _ in range(3))


def _overwrite(held: Tensor, new: Tensor) -> None:
    """Write all rows of a recorded input: beyond the new ones, copies of the first.

    A row left from an earlier, larger replay would name pictures and slots of that one, which is an index error on
    the device, and costs its context.
    """
    count = len(new)
    held[:count].copy_(new, non_blocking=True)
    if count < len(held):
        held[count:].copy_(held[:1].expand_as(held[count:]), non_blocking=True)


def _seconds(run: Callable[[], None], device: torch.device) -> float:
    _finish(device)
    started_s = time.perf_counter()
    run()
    _finish(device)
    return time.perf_counter() - started_s


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Replays:
    """`function` recorded in all sizes, with the seconds that each was measured to take."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._replays: dict[StepSize, Replay] = {}
        self.seconds: dict[StepSize, float] = {}

    def record(self, depth: Depth, largest: Inputs, record: Recorder) -> list[str]:
        """Record all sizes of a depth on the head of `largest`. Returns what went wrong: such sizes run eagerly."""
        failed = []
        for objects, pictures in SIZES:
            size = StepSize(depth, objects, pictures)
            try:
                replay = Replay(self._function, largest.head(objects, pictures), record)
                self.seconds[size] = replay.seconds()
            except RuntimeError as error:
                failed.append(f"{size}: {error}")  # not the error, which would hold on to its tensors
            else:
                self._replays[size] = replay
        return failed

    def run(self, inputs: Inputs, size: StepSize | None) -> Outputs:
        """Replay the step of that size; None: run eagerly."""
        return self._function(inputs) if size is None else self._replays[size](inputs)


class ReplayedEncoder:
    """The image encoder, replayed for the numbers of pictures that were recorded; others run as they are."""

    def __init__(self, encode: Callable[[Tensor], Features]) -> None:
        self._encode = encode
        self._replays: dict[int, tuple[Tensor, Callable[[], None], Levels]] = {}
        self._position_1chw = torch.empty(0)

    def record(self, image_1chw: Tensor, record: Recorder) -> list[str]:
        """Record all numbers of pictures like this one. Returns what went wrong: such numbers run eagerly."""
        self._position_1chw = self._encode(image_1chw).position_1chw
        failed = []
        for pictures in PICTURES:
            held_nchw = image_1chw.repeat(pictures, 1, 1, 1)
            try:
                again, levels = record(partial(self._levels, held_nchw))
            except RuntimeError as error:
                failed.append(f"{pictures} pictures: {error}")
            else:
                self._replays[pictures] = held_nchw, again, levels
        return failed

    def __call__(self, images_nchw: Tensor) -> Features:
        """Normalised images [n, 3, s, s] -> features, which are the caller's own."""
        if len(images_nchw) not in self._replays:
            return self._encode(images_nchw)
        held_nchw, again, levels = self._replays[len(images_nchw)]
        held_nchw.copy_(images_nchw, non_blocking=True)
        again()
        fine_nchw, middle_nchw, coarse_nchw = (level_nchw.clone() for level_nchw in levels)
        return Features(fine_nchw, middle_nchw, coarse_nchw, self._position_1chw)

    def _levels(self, images_nchw: Tensor) -> "Levels":
        features = self._encode(images_nchw)
        return Levels(features.fine_nchw, features.middle_nchw, features.coarse_nchw)


class Levels(NamedTuple):
    """Features of pictures, without the position encoding, which is always the same."""

    fine_nchw: Tensor
    middle_nchw: Tensor
    coarse_nchw: Tensor


class CudaRecorder:
    """Records CUDA graphs that share one pool of memory: they may run in any order, but only one at a time.

    The function is run before it is recorded, so that libraries have set themselves up. Other threads may use the
    device meanwhile. Raises RuntimeError for what cannot be recorded; torch.OutOfMemoryError is one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._stream = urgent_stream(device)
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Out]) -> tuple[Callable[[], None], Out]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                function()
            torch.cuda.current_stream().wait_stream(self._stream)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = function()
        return graph.replay, outputs
