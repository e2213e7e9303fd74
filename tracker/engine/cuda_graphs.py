"""A step recorded once and replayed: a GPU then gets one command where it got hundreds.

What is recorded is a function of tensors that stay where they are: a replay copies its inputs there, runs, and
leaves its outputs where they were before. Steps of other shapes run as they are.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

# (objects, pictures) that are recorded, largest first: the smaller ones then find memory to share.
SIZES = [(objects, pictures) for objects in (16, 8, 4, 2, 1) for pictures in dict.fromkeys((objects, 1))]


class Inputs(NamedTuple):
    """What a step takes, for n pictures and b objects with m memories and p pointers each.

    `times_m` int64: the temporal encoding of each memory, the same for all objects. `index_bk` int64
    [b, 1 + m + p]: its picture, its memories' slots, how many steps ago its pointers are from. `pointers_bpc`
    float32.
    """

    fine_nchw: Tensor
    middle_nchw: Tensor
    coarse_nchw: Tensor
    position_1chw: Tensor
    times_m: Tensor
    index_bk: Tensor
    pointers_bpc: Tensor

    @property
    def size(self) -> tuple[int, int]:
        return len(self.index_bk), len(self.coarse_nchw)

    def head(self, objects: int, pictures: int) -> "Inputs":
        """The same for the first objects and pictures."""
        return self._replace(
            fine_nchw=self.fine_nchw[:pictures],
            middle_nchw=self.middle_nchw[:pictures],
            coarse_nchw=self.coarse_nchw[:pictures],
            index_bk=self.index_bk[:objects],
            pointers_bpc=self.pointers_bpc[:objects],
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

# Runs a function; returns how to run it again, and the outputs, which each run writes anew.
Recorder = Callable[[Callable[[], Outputs]], tuple[Callable[[], None], Outputs]]


def fitting(objects: int, pictures: int, recorded: Collection[tuple[int, int]]) -> tuple[int, int] | None:
    """The smallest recorded size that takes so many objects on so many pictures; None: there is none."""
    return min((size for size in recorded if size[0] >= objects and size[1] >= pictures), default=None)


class Replay:
    """A step recorded on `inputs`, which stay its own."""

    def __init__(self, function: Function, inputs: Inputs, record: Recorder) -> None:
        self._inputs = inputs
        self._again, self._outputs = record(lambda: function(inputs))

    def __call__(self, inputs: Inputs) -> Outputs:
        """Take no more objects and pictures than were recorded. Rows beyond repeat the last one given, and are cut
        off: recordings of all sizes share their inputs, so what an earlier replay left there may name a picture
        that this one does not have, and an index out of range ends the device's context."""
        for held, new in zip(self._inputs, inputs, strict=True):
            given, beyond = held[: len(new)], held[len(new) :]
            given.copy_(new, non_blocking=True)
            beyond.copy_(new[-1:].expand_as(beyond), non_blocking=True)
        self._again()
        return self._outputs.head(len(inputs.index_bk))


class Replays:
    """`function` in all recorded sizes."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._replays: dict[tuple[int, int], Replay] = {}

    def record(self, largest: Inputs, record: Recorder) -> list[str]:
        """Record all sizes on the head of `largest`. Returns what went wrong: such sizes run as they are."""
        failed = []
        for size in SIZES:
            try:
                self._replays[size] = Replay(self._function, largest.head(*size), record)
            except RuntimeError as error:
                failed.append(f"{size}: {error}")  # not the error, which would hold on to its tensors
        return failed

    def run(self, inputs: Inputs) -> Outputs:
        """Replay the smallest size that fits, for inputs as deep as the recorded ones."""
        size = fitting(*inputs.size, self._replays)
        return self._function(inputs) if size is None else self._replays[size](inputs)


class CudaRecorder:
    """Records CUDA graphs that share one pool of memory: they may run in any order, but only one at a time.

    The function is run before it is recorded, so that libraries have set themselves up. Other threads may use the
    device meanwhile. Raises RuntimeError for what cannot be recorded; torch.OutOfMemoryError is one.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, function: Callable[[], Outputs]) -> tuple[Callable[[], None], Outputs]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                function()
            torch.cuda.current_stream().wait_stream(self._stream)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                outputs = function()
        return graph.replay, outputs
