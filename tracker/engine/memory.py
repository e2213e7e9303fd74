"""One object's memory. It is an argument of the engine and comes back from it; nothing else remembers.

An `ObjectMemory` never changes: whatever adds to it returns a new one that shares the tensors. So a refused prompt,
an empty correction or a step that ran out of memory leaves the old track as it was, and a copy costs nothing.

The look-ups are those of the official code (`sam2_base.py`, `_prepare_memory_conditioned_features`), which wants:
every conditioning frame's memory and pointer, the memories of the last 6 processed frames, the pointers of the last
15. Upstream finds them by frame number; here a `step` counts the frames that this object has processed, so frames
that were dropped leave no hole. What corrections of the last `history_frames` need stays as well; nothing grows.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tracker.engine.prompts import Points
from tracker.masks.types import ObjectMask

CONDITIONING = 4  # conditioning frames kept where nothing else is said: the first and the newest
MAX_CONDITIONING = 16  # the most that a configuration can ask for
MEMORIES = 6  # spatial memories of the frames before
POINTERS = 15  # object pointers of the frames before


@dataclass(frozen=True, slots=True, eq=False)
class FrameMemory:
    """What one processed frame left behind.

    `memory_tm` is bfloat16 [h * w, c] (upstream stores bfloat16 too), `pointer_c` float32 [d], `logits_hw` float32
    [h4, w4] on the host, with holes filled; memory and logits are None once they are too old to be asked for.
    """

    frame: int  # capture index
    step: int
    memory_tm: Tensor | None
    pointer_c: Tensor
    logits_hw: Tensor | None
    score: float
    presence: float
    order: int | None = None  # of the prompt, for a conditioning frame: 0 is the object's first; None: tracked only
    tracked: bool = False  # propagation has passed here: a prompt is a correction from now on
    points: Points | None = None  # clicked on this frame so far

    @property
    def conditioning(self) -> bool:
        return self.order is not None

    @property
    def mask(self) -> ObjectMask | None:
        """None once it is too old to be asked for."""
        return None if self.logits_hw is None else ObjectMask(self.logits_hw.numpy(), self.score, self.presence)


@dataclass(frozen=True, slots=True)
class TensorKind:
    """Shape and type of a tensor, such as `float32 [64, 64]`."""

    shape: tuple[int, ...]
    dtype: str
    itemsize: int

    @classmethod
    def of(cls, tensor: Tensor) -> "TensorKind":
        return cls(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), tensor.element_size())

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


@dataclass(frozen=True, slots=True)
class MemoryLayout:
    """What the tensors of one model's memories are like; named as the fields of `FrameMemory`."""

    memory_tm: TensorKind
    pointer_c: TensorKind
    logits_hw: TensorKind


@dataclass(frozen=True, slots=True, eq=False)
class MemoryBank:
    """What memory attention looks at: `(steps ago, entry)` each."""

    conditioning: tuple[FrameMemory, ...]
    memories: tuple[tuple[int, FrameMemory], ...]
    pointers: tuple[tuple[int, FrameMemory], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ObjectMemory:
    """`ObjectMemory()` is an object before its first prompt; with `direction=-1` it is followed backwards in time.

    `past` holds the processed frames, oldest first; `ahead` the conditioning frames still to come (they stay when
    a correction takes the object back in time); `staged` what was prompted since the last propagation. Until then a
    prompt does not see what is staged, as upstream.
    """

    direction: int = 1
    past: tuple[FrameMemory, ...] = ()
    ahead: tuple[FrameMemory, ...] = ()
    staged: tuple[FrameMemory, ...] = ()
    prompts: int = 0  # ever made
    max_conditioning: int = CONDITIONING  # conditioning frames kept

    @property
    def last_frame(self) -> int | None:
        """Capture index of the newest frame that the object was tracked or first prompted on."""
        if self.past:
            return self.past[-1].frame
        return min((e.frame for e in self.staged), key=self._key, default=None)

    @property
    def frames(self) -> tuple[int, ...]:
        """Capture indices that a correction can name and `rewind` can go back to, oldest first."""
        at_hand = {e.frame for e in self.past if e.logits_hw is not None} | {e.frame for e in self.staged}
        return tuple(sorted(at_hand, key=self._key))

    def find(self, frame: int) -> FrameMemory | None:
        """The newest output on a frame, staged ones first (upstream's order in `add_new_points_or_box`)."""
        return next((e for e in (*self.staged, *self.past, *self.ahead) if e.frame == frame), None)

    def mask_on(self, frame: int) -> ObjectMask | None:
        """The newest mask of a frame, where it is still at hand."""
        found = self.find(frame)
        return None if found is None else found.mask

    def is_past(self, frame: int) -> bool:
        """Whether the frame lies before the newest tracked one, in the track's direction."""
        return self.last_frame is not None and self._key(frame) < self._key(self.last_frame)

    def next_step(self) -> int:
        """The step of the next frame to be processed."""
        return self.past[-1].step + 1 if self.past else 0

    def step_for(self, frame: int) -> int:
        """The step of a frame that is prompted; one that lies ahead gets its own when the object comes there."""
        found = self.find(frame)
        return self.next_step() if found is None else found.step

    def to_come(self, frame: int) -> bool:
        """Whether the frame was tracked once, and a correction of an earlier one took the object back since."""
        return any(e.frame == frame and e.tracked for e in self.ahead)

    def bank(self, frame: int, step: int) -> MemoryBank:
        """What a frame at `step` sees. Staged prompts are not in it: `committed()` first to propagate."""
        conditioning = sorted((e for e in (*self.past, *self.ahead) if e.conditioning), key=lambda e: e.order or 0)
        tracked = {e.step: e for e in self.past if not e.conditioning}
        recent = [(ago, tracked[step - ago]) for ago in range(POINTERS, 0, -1) if step - ago in tracked]
        seen = [(step - e.step, e) for e in conditioning if self._key(e.frame) <= self._key(frame)]
        return MemoryBank(
            tuple(conditioning),
            tuple((ago, e) for ago, e in recent if ago <= MEMORIES),
            (*seen, *reversed(recent)),
        )

    def with_prompt(self, entry: FrameMemory, max_conditioning: int = CONDITIONING) -> "ObjectMemory":
        """Stage a prompted frame in the place of what was there. The first prompt's frame stays the first, and at
        most `max_conditioning` are kept from now on."""
        found = self.find(entry.frame)
        order = 0 if found is not None and found.order == 0 else self.prompts
        others = [e for e in self.staged if e.frame != entry.frame]
        staged = _capped([*others, replace(entry, order=order)], max_conditioning)
        return replace(
            self,
            staged=tuple(e for e in staged if e.conditioning),
            prompts=self.prompts + 1,
            max_conditioning=max_conditioning,
        )

    def committed(self) -> "ObjectMemory":
        """Staged prompts become conditioning frames (upstream's `propagate_in_video_preflight`)."""
        if not self.staged:
            return self
        last = self._key(self.last_frame)
        entries = {e.frame: e for e in (*self.past, *self.ahead)} | {e.frame: e for e in self.staged}
        in_time = sorted(entries.values(), key=lambda e: self._key(e.frame))
        ordered = _capped(in_time, self.max_conditioning)
        past = tuple(replace(e, tracked=True) for e in ordered if self._key(e.frame) <= last)
        ahead = (e for e in ordered if self._key(e.frame) > last and e.conditioning)
        return replace(self, past=past, ahead=tuple(ahead), staged=())

    def capped(self, most: int) -> "ObjectMemory":
        """With at most `most` conditioning frames, now and from now on, as prompts are capped."""
        track = self.committed()
        ordered = _capped((*track.past, *track.ahead), most)
        past, ahead = ordered[: len(track.past)], ordered[len(track.past) :]
        return replace(track, past=past, ahead=tuple(e for e in ahead if e.conditioning), max_conditioning=most)

    def passing(self, frame: int) -> "ObjectMemory":
        """Take conditioning frames that come up to and including `frame` from `ahead` into the past."""
        track = self.committed()
        while track.ahead and self._key(track.ahead[0].frame) <= self._key(frame):
            first, *rest = track.ahead
            met = replace(first, step=track.next_step(), tracked=True)
            track = replace(track, past=(*track.past, met), ahead=tuple(rest))
        return track

    def advanced(self, entry: FrameMemory, history_frames: int) -> "ObjectMemory":
        """Take in a tracked frame, and drop what is too old for any use."""
        reach = entry.step - history_frames - POINTERS
        kept = (e for e in (*self.past, entry) if e.conditioning or e.step > reach)
        return replace(self, past=tuple(_aged(e, entry.step - e.step, history_frames) for e in kept))

    def rewind(self, frame: int) -> "ObjectMemory":
        """Forget what was tracked after `frame`. Conditioning frames after it stay, to be met again."""
        later = [e for e in self.past if self._key(e.frame) > self._key(frame)]
        past = tuple(e for e in self.past if self._key(e.frame) <= self._key(frame))
        return replace(self, past=past, ahead=(*(e for e in later if e.conditioning), *self.ahead))

    def turned(self, frame: int) -> "ObjectMemory":
        """The same object followed in the other direction from `frame` on; later frames become its memory."""
        track = self.committed()
        turned = ObjectMemory(-self.direction, prompts=self.prompts, max_conditioning=self.max_conditioning)
        entries = [replace(e, step=-e.step) for e in reversed((*track.past, *track.ahead))]
        past = tuple(e for e in entries if turned._key(e.frame) <= turned._key(frame))
        ahead = tuple(e for e in entries if turned._key(e.frame) > turned._key(frame) and e.conditioning)
        return replace(turned, past=past, ahead=ahead)

    def _key(self, frame: int | None) -> int:
        return self.direction * (frame or 0)


def _capped(entries: Sequence[FrameMemory], most: int) -> tuple[FrameMemory, ...]:
    """At most `most` conditioning frames: the first prompt and the newest; the rest count as tracked only.

    Upstream too treats conditioning frames that are not selected as ordinary memories.
    """
    orders = sorted(e.order for e in entries if e.order is not None)
    kept = {*orders[:1], *orders[1:][-(most - 1) :]}
    return tuple(e if e.order is None or e.order in kept else replace(e, order=None) for e in entries)


def _aged(entry: FrameMemory, age: int, history_frames: int) -> FrameMemory:
    """The entry without what nobody can ask for any more at `age` steps.

    The oldest frame at hand has age `history_frames - 1`; to correct it takes the 6 memories before it.
    """
    if age >= history_frames and entry.logits_hw is not None:
        entry = replace(entry, logits_hw=None)
    if age >= history_frames + MEMORIES and entry.memory_tm is not None and not entry.conditioning:
        entry = replace(entry, memory_tm=None)
    return entry


def nbytes(tracks: Iterable[ObjectMemory]) -> int:
    """Bytes that tracks hold together, shared tensors once: what is bounded."""
    seen: dict[int, int] = {}
    for track in tracks:
        for e in (*track.past, *track.ahead, *track.staged):
            for t in (e.memory_tm, e.pointer_c, e.logits_hw, *(e.points or ())):
                if t is not None:
                    seen[t.data_ptr()] = t.nelement() * t.element_size()
    return sum(seen.values())
