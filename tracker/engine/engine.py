"""The streaming engine: encode pictures, prompt objects, propagate them, remember.

In float32, on the same tensors and prompts, its masks are those of the official `SAM2VideoPredictor` with
`add_all_frames_to_correct_as_cond=True`, with three differences: of more conditioning frames than
`engine.conditioning_frames` only the first and the newest are looked at; both directions in one official state see
each other's frames, here each has a memory of its own (`turned` takes one along); and pointers' ages are scaled as
in clips of 16 frames and more, which moves logits of shorter ones by 3e-3 of their standard deviation.

What is shown of a mask may end at the picture's edges instead (`engine.edges`); what is remembered is as upstream.

It holds no object's state: an `ObjectMemory` goes in and a new one comes back.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from tracker.config import EngineConfig
from tracker.engine import device, embedder, forward, preprocess
from tracker.engine.batch import Batch
from tracker.engine.cost import StepCost
from tracker.engine.cuda_graphs import CudaRecorder, Recorder, ReplayedEncoder
from tracker.engine.edges import Edges
from tracker.engine.forward import Features
from tracker.engine.grouping import Propagation
from tracker.engine.layers.image_encoder import Encoder
from tracker.engine.memory import FrameMemory, MemoryLayout, ObjectMemory, TensorKind
from tracker.engine.models import zoo
from tracker.engine.models.build import Model
from tracker.engine.precision import Precision, of_config
from tracker.engine.prompting import Prompter, checked_prompt
from tracker.engine.propagation import Propagator
from tracker.errors import AtCapacity
from tracker.images.types import Image
from tracker.masks.types import F32, U8, Bool, ObjectMask
from tracker.protocol.prompt import Prompt

log = logging.getLogger(__name__)

AS_GIVEN = Edges(None)  # of masks that a prompt gave: they are better than what colours say

# An object, the index of its image among the features, the frame's capture index.
Item = tuple[ObjectMemory, int, int]
Result = tuple[ObjectMemory, ObjectMask]


class Engine:
    """One model on one device. Call it from one thread.

    Args:
        model: from `models.build.load_model`.
        config: precision, hole filling, how much history tracks keep.
        plain: follow objects one by one with the official modules as they are, which `batch.py` is tested against.
        precision: instead of what the config says.
    """

    def __init__(
        self,
        model: Model,
        config: EngineConfig | None = None,
        *,
        plain: bool = False,
        precision: Precision | None = None,
    ) -> None:
        self.model = model
        self.config = config or EngineConfig()
        self.precision = precision or of_config(self.config, model.device)
        self.dtype = self.precision.everywhere
        self.cost = StepCost()
        self._encoding_s = 0.0  # of the features made last
        self._picture_edges = self.config.edges == "picture" or (
            self.config.edges == "auto" and zoo.takes_picture_edges(model.name)
        )
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        device.prepare(model.device, self.dtype)
        with self.computing():
            position_tm = forward.memory_position(model.net, self.dtype)
            encoder = None if plain else Encoder(model.net, self.precision.encoder)
            self._encode = ReplayedEncoder(encoder or partial(forward.encode_image, model.net))
            self._batch = None if plain else Batch(model.net, self.precision, self.config)
        fill_hole_area = self.config.fill_hole_area
        self._prompted = Prompter(model, position_tm, fill_hole_area)
        self._propagator = Propagator(model, position_tm, self._batch, fill_hole_area)

    @property
    def streams_per_batch(self) -> int | None:
        """How many streams are worth sharing one step: all (None), but on a CPU each keeps its own latency."""
        return 1 if self.model.device.type == "cpu" else None

    def describe(self) -> dict[str, Any]:
        """What `server.info` says of the model."""
        return {
            "name": self.model.name,
            "image_size": self.model.image_size,
            "device": str(self.model.device),
            "dtype": str(self.precision.lowest).removeprefix("torch."),
            "sha256": self.model.sha256,
        }

    def memory_layout(self) -> MemoryLayout:
        """What the tensors of this model's memories are like."""
        net = self.model.net
        tokens, side = net.sam_image_embedding_size**2, self.model.image_size // 4
        return MemoryLayout(
            memory_tm=TensorKind((tokens, int(net.mem_dim)), "bfloat16", 2),
            pointer_c=TensorKind((int(net.hidden_dim),), "float32", 4),
            logits_hw=TensorKind((side, side), "float32", 4),
        )

    def memory(self) -> dict[str, Any]:
        """Memory of the device: held by this process, and there in all."""
        return device.memory_use(self.model.device)

    def encode(self, images: Sequence[Image]) -> Features:
        """Features of n pictures of any sizes, in one pass."""
        return self.encode_tensor(preprocess.model_input(images, self.model.image_size, self.model.device))

    def pixels(self, image: Image) -> U8:
        """A picture at the model's size, uint8 [s, s, 3]: as an `Rgb` it has the features that `image` has."""
        return preprocess.at_size(image, self.model.image_size, self.model.device).cpu().numpy()

    def encode_tensor(self, images_nchw: Tensor) -> Features:
        """Features of normalised pictures, float32 [n, 3, s, s] with s the model's image size."""
        started_s = time.perf_counter()
        with self.computing(), record_function("image encoder"):
            features = self._encode(images_nchw.to(self.model.device))
        self._encoding_s = time.perf_counter() - started_s
        return replace(features, pictures_nchw=images_nchw) if self._picture_edges else features

    def prompt(
        self, track: ObjectMemory, features: Features, i: int, frame: int, prompt: Prompt, size_wh: tuple[int, int]
    ) -> Result:
        """Mark or correct an object on the i-th picture, which is capture index `frame` at `size_wh`.

        A frame that the object has not tracked is prompted afresh, without memory; one that it has tracked is
        corrected with its memory and its mask there. Either way the frame becomes a conditioning frame. What was
        tracked after a corrected frame is out of date: `rewind(frame)` the new track and propagate again.

        Raises BadPrompt for what cannot mark anything, FrameMarked for a box where points are already, FrameGone
        for a frame that the track cannot correct.
        The track that was given is never changed, so a mask that the caller does not like costs nothing.
        """
        prompt = checked_prompt(track, frame, prompt, size_wh)
        with self.computing():
            entry = self._prompted(track, features.of(i), frame, prompt, size_wh)
        edges = AS_GIVEN if prompt.mask_hw is not None else Edges(features.pictures_nchw)
        mask = _object_mask(entry, edges, i)
        return track.with_prompt(entry, self.config.conditioning_frames), mask

    def propagate(self, items: Sequence[Item], features: Features) -> list[Result]:
        """Follow objects to their next frames: any mix of objects and streams, each object once.

        `(track, i, frame)`: the frame is the i-th of `features` and lies after the track's last one, in its
        direction. A conditioning frame that is met again gives the mask of its prompt.
        """
        started_s = time.perf_counter()
        edges = Edges(features.pictures_nchw)
        moves: dict[int, Propagation] = {}
        results: dict[int, Result] = {}
        for k, (before, i, frame) in enumerate(items):
            memory = _passing(before, frame)
            if memory.last_frame == frame:
                results[k] = memory, _as_shown(memory.past[-1], edges, i)
                continue
            bank = memory.bank(frame, memory.next_step())
            moves[k] = Propagation(memory, i, frame, bank)
        with self.computing():
            entries = self._propagator(list(moves.values()), features)
        for (k, move), entry in zip(moves.items(), entries, strict=True):
            track = move.track.advanced(entry, self.config.history_frames)
            results[k] = track, _object_mask(entry, edges, move.i)
        if moves:
            self.cost.observe(len(moves), self._encoding_s + time.perf_counter() - started_s)
        return [results[k] for k in range(len(items))]

    def shown(self, entries: Sequence[FrameMemory], image: Image) -> list[ObjectMask]:
        """Masks that objects remember of one picture, as `prompt` and `propagate` gave them. In any thread: what
        computes them is not used."""
        pictures_nchw = None
        if self._picture_edges and entries:
            pictures_nchw = preprocess.model_input([image], self.model.image_size, torch.device("cpu"))
        edges = Edges(pictures_nchw)
        return [_as_shown(entry, edges, 0) for entry in entries]

    def look(self, features: Features, i: int, inside_hw: Bool) -> F32:
        """Features of the i-th image inside a mask of any size, float32 [c]: what an object looks like."""
        return embedder.pooled(features, i, inside_hw)

    def warm_up(self) -> None:
        """A few steps on a blank picture: the first real one is not slow, and `cost` has something to go by."""
        side = self.model.image_size
        picture_1chw = torch.zeros(1, 3, side, side)
        whole = Prompt(box_xyxy=np.array([0, 0, side, side], np.float32))
        blank = self.encode_tensor(picture_1chw)
        memory, _ = self.prompt(ObjectMemory(), blank, 0, 0, whole, (side, side))
        self.propagate([(memory, 0, 1)] * 4, blank)
        self.cost = StepCost()  # the first step is not counted: it allocates
        for objects in (1, 4):
            blank = self.encode_tensor(picture_1chw)
            self.propagate([(memory, 0, 1)] * objects, blank)
        if self.model.device.type == "cuda":
            self.record(blank, CudaRecorder(self.model.device))

    def record(self, like: Features, record: Recorder) -> None:
        """Replay steps from now on where they can be, on features like these; warns where they cannot."""
        if self._batch is None:
            return
        try:
            with self.computing():
                side = self.model.image_size
                blank_1chw = torch.zeros(1, 3, side, side, device=self.model.device)
                failed = self._encode.record(blank_1chw, record) + self._batch.record(like, record)
        except AtCapacity as error:
            failed = [str(error)]
        if failed:
            log.warning("%d sizes are not replayed, which costs speed only; first %s", len(failed), failed[0])

    def computing(self) -> AbstractContextManager[None]:
        """No gradients, and the precision of the configuration. Raises AtCapacity where device memory is short."""
        return device.computing(self.model.device, self.dtype)


def _passing(track: ObjectMemory, frame: int) -> ObjectMemory:
    track = track.passing(frame)
    if track.is_past(frame):
        raise ValueError(f"frame {frame} is before the track's last one, {track.last_frame}: rewind first")
    return track


def _as_shown(entry: FrameMemory, edges: Edges, i: int) -> ObjectMask:
    given = entry.conditioning and entry.points is None
    return _object_mask(entry, AS_GIVEN if given else edges, i)


def _object_mask(entry: FrameMemory, edges: Edges, i: int) -> ObjectMask:
    assert entry.mask is not None
    return replace(entry.mask, logits_hw=edges.along(entry.mask.logits_hw, i))
