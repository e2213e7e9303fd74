"""Which looks of an object are kept: those that differ most, and of two that are alike the sharper one."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from tracker.daemon.looks.look import Key
from tracker.images.imaging import decode, encode_jpeg
from tracker.masks.types import F32, U8
from tracker.registry.similar import Look

PER_OBJECT = 8  # looks kept of an object, the most different ones; and its last one
LAST = PER_OBJECT  # the slot of that
NEW = 0.98  # as alike as this adds nothing
KNOWN = 4096  # objects whose looks are at hand
BLURRED = 0.5  # of the sharpest look of late: less is not taken,
PATIENCE = 5  # but no more than so many in a row
SHARPER = 1.5  # times as sharp as what is kept: it takes its place

Earlier = Callable[[Key], list[Look]]  # what an earlier run kept of an object


@dataclass(slots=True)
class Known:
    """The looks of an object that is tracked: vectors and sharpness by slot, and the newest one."""

    vectors: dict[int, F32] = field(default_factory=dict)
    sharpness: dict[int, float] = field(default_factory=dict)
    last: Look | None = None
    last_crop: bytes = b""  # of `last`, as CLIP would be shown it, where none of the slots has it: a JPEG
    sharpest: float = 0.0  # of late
    skipped: int = 0  # in a row

    def all_vectors(self) -> list[F32]:
        newest = [] if self.last is None else [self.last.vector_c]
        return [*self.vectors.values(), *newest]

    def take_crop(self) -> U8 | None:
        """What CLIP has not been shown of the newest look, once."""
        crop, self.last_crop = self.last_crop, b""
        return decode(crop) if crop else None


class KeptLooks:
    """It belongs to the looks' thread."""

    def __init__(self, earlier: Earlier) -> None:
        self._earlier = earlier
        self._known: OrderedDict[Key, Known] = OrderedDict()

    def wants(self, key: Key, sharpness: float) -> bool:
        """Whether a look is worth taking: an object's first always is, a blurred one is not."""
        known = self._of(key)
        blurred = known.vectors and sharpness < BLURRED * known.sharpest
        if blurred and known.skipped < PATIENCE:
            known.skipped += 1
            return False
        known.sharpest = sharpness if blurred else max(sharpness, known.sharpest)
        known.skipped = 0
        return True

    def take(self, look: Look, sharpness: float) -> int | None:
        """Remember a look; returns the slot to keep it in, None where it adds nothing."""
        known = self._of((look.stream, look.object))
        known.last = look
        known.last_crop = b""
        slot = slot_for(known.vectors, look.vector_c)
        if slot is None:
            slot = _sharper(known, look.vector_c, sharpness)
        if slot is not None:
            known.vectors[slot] = look.vector_c
            known.sharpness[slot] = sharpness
        return slot

    def set_aside(self, key: Key, crop_hwc: U8 | None) -> None:
        """Keep the newest look's crop: CLIP is shown it if it proves to be the object's last."""
        if crop_hwc is not None:
            self._of(key).last_crop = encode_jpeg(crop_hwc)

    def find(self, key: Key) -> Known | None:
        """What is at hand of an object that was looked at."""
        known = self._known.get(key)
        return known if known is not None and known.last is not None else None

    def forget(self, key: Key) -> None:
        self._known.pop(key, None)

    def _of(self, key: Key) -> Known:
        known = self._known.get(key)
        if known is None:
            vectors = {look.slot: look.vector_c for look in self._earlier(key) if look.slot < PER_OBJECT}
            known = self._known[key] = Known(vectors)
            while len(self._known) > KNOWN:
                self._known.popitem(last=False)
        return known


def slot_for(vectors: dict[int, F32], vector_c: F32) -> int | None:
    """The slot to keep a look in, so that the kept ones differ most; None where it adds nothing."""
    likeness = {slot: float(other_c @ vector_c) for slot, other_c in vectors.items()}
    nearest = max(likeness.values(), default=-1.0)
    if nearest >= NEW:
        return None
    if len(vectors) < PER_OBJECT:
        return next(slot for slot in range(PER_OBJECT) if slot not in vectors)
    slots = sorted(vectors)
    pairs = [(float(vectors[a] @ vectors[b]), b) for a in slots for b in slots if a < b]
    closest, slot = max(pairs)
    return slot if nearest < closest else None


def _sharper(known: Known, vector_c: F32, sharpness: float) -> int | None:
    """The slot of a look that is the same but for its blur."""
    likeness = {slot: float(other_c @ vector_c) for slot, other_c in known.vectors.items()}
    nearest = max(likeness, key=lambda slot: likeness[slot])
    before = known.sharpness.get(nearest)
    if before is None or likeness[nearest] < NEW or sharpness < SHARPER * before:
        return None
    return nearest if sharpness > 0 else None
