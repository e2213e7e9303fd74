"""The streaming engine: encode pictures, prompt objects, propagate them, remember.

In float32, on the same tensors and prompts, its masks are those of the official `SAM2VideoPredictor` with
`add_all_frames_to_correct_as_cond=True`, with three differences: of more conditioning frames than
`engine.conditioning_frames` only the first and the newest are looked at; both directions in one official state see
each other's frames, here each has a memory of its own (`turned` takes one along); and pointers' ages are scaled as
in clips of 16 frames and more, which moves logits of shorter ones by 3e-3 of their standard deviation.

It holds no object's state: an `ObjectMemory` goes in and
a new one comes back.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.profiler import record_function

from tracker.config import EngineConfig
from tracker.engine import embedder, forward, preprocess, prompts
from tracker.engine.batch import Batch, Step
from tracker.engine.cost import StepCost
from tracker.engine.cuda_graphs import CudaRecorder, Recorder, ReplayedEncoder, take_over
from tracker.engine.downloads import Download, Said, Seen
from tracker.engine.forward import Features, Masks
from tracker.engine.grouping import Group, Propagation, pool_slots
from tracker.engine.layers.image_encoder import Encoder
from tracker.engine.memory import FrameMemory, MemoryBank, MemoryLayout, ObjectMemory, TensorKind
from tracker.engine.models.build import Model
from tracker.engine.postprocess import fill_holes
from tracker.engine.precision import Precision, of_config
from tracker.engine.prompts import Points
from tracker.errors import AtCapacity, FrameGone, FrameMarked
from tracker.protocol.prompts import checked
from tracker.types import F32, U8, Bool, Image, ObjectMask, Prompt

log = logging.getLogger(__name__)

Item = tuple[
    ObjectMemory, int, int
]  # an object, the index of its image among the features, the frame's capture index
Result = tuple[ObjectMemory, ObjectMask]
Made = tuple[FrameMemory, ObjectMask]  # of an object on one frame


class Launched(NamedTuple):
    """Steps that a device is at: for each group of objects its indices among the moves, and its step."""

    moves: list[Propagation]
    groups: list[list[int]]
    steps: list[Step]
    download: Download


CLAMP = 32.0  # of the logits that a correction starts from, as upstream


class Engine:
    """One model on one device. Call it from one thread.

    Args:
        model: from `model.load_model`.
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
        if self.config.threads is not None:
            torch.set_num_threads(self.config.threads)
        if self.dtype is torch.float32:
            # Good for three decimals only, and on by default for convolutions.
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        if model.device.type == "cuda":
            take_over(model.device)
            # Flash attention, and the memory-efficient kernel under a mask and in float32: cuDNN's, which torch
            # puts first on some GPUs, plans anew for each shape.
            torch.backends.cuda.enable_cudnn_sdp(False)
        with self._computing():
            self._position_tm = forward.memory_position(model.net, self.dtype)
            encoder = None if plain else Encoder(model.net, self.precision.encoder)
            self._encode = ReplayedEncoder(encoder or partial(forward.encode_image, model.net))
            self._batch = (
                None if plain else Batch(model.net, self.precision, self._slots(), self.config.conditioning_frames)
            )

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
        device = self.model.device
        if device.type == "cuda":
            used, total = torch.cuda.memory_reserved(device), torch.cuda.get_device_properties(device).total_memory
        else:
            page = os.sysconf("SC_PAGE_SIZE")
            used = int(Path("/proc/self/statm").read_text().split()[1]) * page
            total = os.sysconf("SC_PHYS_PAGES") * page
        return {"device": str(device), "used_bytes": used, "total_bytes": total}

    def encode(self, images: Sequence[Image]) -> Features:
        """Features of n pictures of any sizes, in one pass."""
        return self.encode_tensor(preprocess.model_input(images, self.model.image_size, self.model.device))

    def pixels(self, image: Image) -> U8:
        """A picture at the model's size, uint8 [s, s, 3]: as an `Rgb` it has the features that `image` has."""
        return preprocess.at_size(image, self.model.image_size, self.model.device).cpu().numpy()

    def encode_tensor(self, images_nchw: Tensor) -> Features:
        """Features of normalised pictures, float32 [n, 3, s, s] with s the model's image size."""
        started_s = time.perf_counter()
        with self._computing(), record_function("image encoder"):
            features = self._encode(images_nchw.to(self.model.device))
        self._encoding_s = time.perf_counter() - started_s
        return features

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
        found = track.find(frame)
        _check_correctable(track, frame, found)
        prompt = checked(prompt, size_wh, correction=track.last_frame is not None)
        marked = found is not None and found.points is not None
        if marked and prompt.box_xyxy is not None and not prompt.replace:
            raise FrameMarked("box: the object is marked on this frame already, and a box comes before points")
        with self._computing():
            entry = self._prompted(track, features.of(i), frame, found, prompt, size_wh)
        return track.with_prompt(entry, self.config.conditioning_frames), _object_mask(entry)

    def propagate(self, items: Sequence[Item], features: Features) -> list[Result]:
        """Follow objects to their next frames: any mix of objects and streams, each object once.

        `(track, i, frame)`: the frame is the i-th of `features` and lies after the track's last one, in its
        direction. A conditioning frame that is met again gives the mask of its prompt.
        """
        return self.launch(items, features)()

    def launch(self, items: Sequence[Item], features: Features) -> Callable[[], list[Result]]:
        """`propagate` without waiting for a device: what is returned waits, and gives the results. What is launched
        in between, such as the next picture's encoding, runs on a GPU while the host is at these masks."""
        started_s = time.perf_counter()
        moves: dict[int, Propagation] = {}
        results: dict[int, Result] = {}
        for k, (before, i, frame) in enumerate(items):
            memory = _passing(before, frame)
            if memory.last_frame == frame:
                results[k] = memory, _object_mask(memory.past[-1])
                continue
            bank = memory.bank(frame, memory.next_step())
            moves[k] = Propagation(memory, i, frame, bank)
        with self._computing():
            launched = self._launched(list(moves.values()), features)
        encoding_s = self._encoding_s

        def finish() -> list[Result]:
            for (k, move), (entry, mask) in zip(moves.items(), self._made(launched), strict=True):
                results[k] = move.track.advanced(entry, self.config.history_frames), mask
            if moves:
                self.cost.observe(len(moves), encoding_s + time.perf_counter() - started_s)
            return [results[k] for k in range(len(items))]

        return finish

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
            with self._computing():
                side = self.model.image_size
                blank_1chw = torch.zeros(1, 3, side, side, device=self.model.device)
                failed = self._encode.record(blank_1chw, record) + self._batch.record(like, record)
        except AtCapacity as error:
            failed = [str(error)]
        if failed:
            log.warning("%d sizes are not replayed, which costs speed only; first %s", len(failed), failed[0])

    def _launched(self, moves: list[Propagation], features: Features) -> "Launched":
        """All steps, and after them their way to the host."""
        if self._batch is None:
            groups = [Group([k], None) for k in range(len(moves))]
            steps = [self._plain_step(move, features.of(move.i)) for move in moves]
        else:
            groups = self._batch.groups(moves)
            steps = [self._batch.step([moves[k] for k in indices], features, size) for indices, size in groups]
        download = Download([Said(s.logits_bhw, torch.stack((s.score_b, s.presence_b))) for s in steps])
        return Launched(moves, [group.indices for group in groups], steps, download)

    def _made(self, launched: "Launched") -> list[Made]:
        """What each object's next frame leaves behind."""
        made: dict[int, Made] = {}
        for indices, step, seen in zip(launched.groups, launched.steps, launched.download.wait(), strict=True):
            together = [launched.moves[k] for k in indices]
            made.update(zip(indices, self._made_of(together, step, seen), strict=True))
        return [made[k] for k in range(len(launched.moves))]

    def _plain_step(self, move: Propagation, features: Features) -> Step:
        net = self.model.net
        masks = forward.segment(net, features, self._remembered(move.bank, features), first=False)
        memory_btm = forward.encode_memory(net, features, masks.full_b1hw, masks.presence_b, prompted=False)
        logits_bhw, pointer_bc = masks.logits_b1hw[:, 0].float(), masks.pointer_bc.float()
        return Step(logits_bhw, masks.score_b, masks.presence_b, pointer_bc, memory_btm.unbind())

    def _prompted(
        self,
        track: ObjectMemory,
        features: Features,
        frame: int,
        found: FrameMemory | None,
        prompt: Prompt,
        size_wh: tuple[int, int],
    ) -> FrameMemory:
        net = self.model.net
        points: Points | None = None
        if prompt.mask_hw is not None:
            mask_b1hw = prompts.model_mask(prompt.mask_hw, self.model.image_size).to(self.model.device)
            masks = forward.take_mask(net, features, mask_b1hw)
        else:
            points = prompts.model_points(prompt, size_wh, self.model.image_size)
            if found is not None and found.points is not None and not prompt.replace:
                points = points.after(found.points)
            masks = self._clicked(track, features, found, points)
        # What was prompted is remembered as the user saw it: with its holes filled.
        logits_hw = torch.from_numpy(self._filled(masks.logits_b1hw[0, 0].float().cpu().numpy()))
        full_b1hw = forward.full_size(net, logits_hw[None, None].to(self.model.device))
        memory_btm = forward.encode_memory(net, features, full_b1hw, masks.presence_b, prompted=True)
        return FrameMemory(
            frame=frame,
            step=track.step_for(frame),
            memory_tm=memory_btm[0],
            pointer_c=masks.pointer_bc[0].float(),
            logits_hw=logits_hw,
            score=float(masks.score_b[0]),
            presence=float(masks.presence_b[0]),
            tracked=found is not None and found.tracked,
            points=points,
        )

    def _clicked(self, track: ObjectMemory, features: Features, found: FrameMemory | None, points: Points) -> Masks:
        """Points, the mask so far if any, and memory if the object has tracked this frame; as upstream decides
        between a prompt and a correction."""
        if found is not None and found.tracked:
            coarse_bchw = self._remembered(track.bank(found.frame, found.step), features)
        else:
            coarse_bchw = forward.no_memory(self.model.net, features)
        before_b1hw = None
        if found is not None and found.logits_hw is not None:
            before_b1hw = found.logits_hw[None, None].to(self.model.device).clamp(-CLAMP, CLAMP)
        return forward.segment(
            self.model.net,
            features,
            coarse_bchw,
            first=found is None or not found.tracked,
            points=points.as_batch(self.model.device),
            logits_b1hw=before_b1hw,
        )

    def _remembered(self, bank: MemoryBank, features: Features) -> Tensor:
        net = self.model.net
        tokens = forward.memory_tokens(net, self._position_tm, bank)
        return forward.remember(net, features, tokens.memory_tm[None], tokens.position_tm[None], tokens.pointers)

    def _made_of(self, moves: list[Propagation], step: Step, seen: Seen) -> list[Made]:
        made = []
        for k, move in enumerate(moves):
            logits_hw = self._filled(seen.logits_bhw[k])
            entry = FrameMemory(
                frame=move.frame,
                step=move.track.next_step(),
                memory_tm=step.memories[k],
                pointer_c=step.pointer_bc[k],
                logits_hw=torch.from_numpy(logits_hw),
                score=seen.scores[k],
                presence=seen.presences[k],
                tracked=True,
            )
            made.append((entry, ObjectMask(logits_hw, entry.score, entry.presence)))
        return made

    def _filled(self, logits_hw: F32) -> F32:
        """One object's logits with holes filled, on the host: only a correction needs them on the device again."""
        return fill_holes(logits_hw, self.config.fill_hole_area)

    def _slots(self) -> int | None:
        """Projected memories that are kept, a fixed number where steps are recorded: those know addresses."""
        device, net = self.model.device, self.model.net
        if device.type != "cuda":
            return None
        channels = len(net.memory_attention.layers) * net.hidden_dim + net.mem_dim
        slot = net.sam_image_embedding_size**2 * channels
        total = torch.cuda.get_device_properties(device).total_memory
        slot_bytes = slot * self.precision.attention.itemsize
        return pool_slots(self.config.max_objects, slot_bytes, total, self.config.conditioning_frames)

    @contextmanager
    def _computing(self) -> Iterator[None]:
        """No gradients, and the precision of the configuration. Raises AtCapacity where device memory is short."""
        bfloat16 = torch.autocast(self.model.device.type, torch.bfloat16)
        try:
            with torch.inference_mode(), bfloat16 if self.dtype is torch.bfloat16 else nullcontext():
                yield
        except torch.OutOfMemoryError:
            raise AtCapacity(
                "out of device memory; remove objects, or choose a smaller model or model.image_size"
            ) from None


def _check_correctable(track: ObjectMemory, frame: int, found: FrameMemory | None) -> None:
    """Raise FrameGone for a frame whose mask the object's memory has no more, or not yet."""
    gone = track.is_past(frame) if found is None else found.logits_hw is None
    if gone or track.to_come(frame):
        known = ", ".join(map(str, track.frames))
        raise FrameGone(f"frame: the object has no mask of frame {frame}; it can be corrected on {known}")


def _passing(track: ObjectMemory, frame: int) -> ObjectMemory:
    track = track.passing(frame)
    if track.is_past(frame):
        raise ValueError(f"frame {frame} is before the track's last one, {track.last_frame}: rewind first")
    return track


def _object_mask(entry: FrameMemory) -> ObjectMask:
    assert entry.logits_hw is not None
    return ObjectMask(entry.logits_hw.cpu().numpy(), entry.score, entry.presence)
