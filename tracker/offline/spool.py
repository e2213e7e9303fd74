"""What waits on disk for its turn: pictures that are tracked backwards, and the masks that come of it."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np

from tracker.images.types import Rgb
from tracker.masks.types import U8, ObjectMask

Masks = Mapping[int, ObjectMask]  # by object id


class Spool:
    """Pictures at the model's size, and masks, in a temporary folder; each is taken back once."""

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="trackerd-")
        self._path = Path(self._folder.name)
        self._objects: dict[int, list[int]] = {}  # by frame

    def put_image(self, index: int, rgb_hwc: U8) -> None:
        np.save(self._path / f"{index}.npy", rgb_hwc)

    def image(self, index: int) -> Rgb:
        path = self._path / f"{index}.npy"
        rgb_hwc = np.load(path)
        path.unlink()
        return Rgb(rgb_hwc)

    def put_mask(self, index: int, object_id: int, mask: ObjectMask) -> None:
        self._objects.setdefault(index, []).append(object_id)
        np.savez(self._mask_path(index, object_id), logits_hw=mask.logits_hw, said=(mask.score, mask.presence))

    def masks(self, index: int) -> Masks:
        return {object_id: self._mask(index, object_id) for object_id in self._objects.pop(index, [])}

    def _mask(self, index: int, object_id: int) -> ObjectMask:
        path = self._mask_path(index, object_id)
        with np.load(path) as saved:
            mask = ObjectMask(saved["logits_hw"], *map(float, saved["said"]))
        path.unlink()
        return mask

    def _mask_path(self, index: int, object_id: int) -> Path:
        return self._path / f"{index}-{object_id}.npz"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()
