"""Rendered batches, made in worker processes while the model learns."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from training.photos import any_photo, image_of
from training.render import Clip, render
from training.scenario import SMALLEST_VISIBLE, Scenario
from training.textures import Bank

PROMPTABLE_SHARE = 0.003


@dataclass(frozen=True)
class Batch:
    """n clips of t frames and m objects: object i is seen in clip `clip_of_m[i]`."""

    frames_tn3hw: Tensor
    """uint8."""
    masks_tmhw: Tensor
    """bool; nothing where the object is gone."""
    clip_of_m: Tensor

    @property
    def device(self) -> torch.device:
        return self.frames_tn3hw.device

    def to(self, device: torch.device) -> "Batch":
        """The same there."""
        return self._with(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same in memory from which a GPU fetches by itself."""
        return self._with(Tensor.pin_memory)

    def _with(self, moved: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(moved(self.frames_tn3hw), moved(self.masks_tmhw), moved(self.clip_of_m))


@dataclass(frozen=True)
class Recipe:
    """How a step's batch is rendered."""

    scenario: Scenario
    clips: int
    targets: int = 2
    """Objects a clip, in the mean: a step has as many in all as its clips (or their pictures) have together."""
    single_images: bool = False
    """Every frame of a clip is an image of its own: sprites cost more to make than to draw."""
    procedural: float = 0.5
    """Share of clips without anything from the bank, as all validation clips are."""
    shortest: int = 0
    """If not 0, the clips of a step have a length from this to the scenario's, the same in all ranks."""

    @property
    def size_px(self) -> int:
        return self.scenario.size_px


@dataclass(frozen=True)
class PhotoRecipe:
    """A step's batch of single real images with true masks."""

    size_px: int
    photos: int
    targets: int = 2


class Stream(IterableDataset[list[Batch]]):
    """A batch of each recipe for steps `first`, `first + 1`, …: the same for any number of workers."""

    def __init__(
        self, bank: Bank, recipes: tuple[Recipe | PhotoRecipe, ...], seed: tuple[int, ...], first: int
    ) -> None:
        self.bank, self.recipes, self.seed, self.first = bank, recipes, seed, first

    def __iter__(self) -> Iterator[list[Batch]]:
        cv2.setNumThreads(1)
        torch.set_num_threads(1)
        worker = get_worker_info()
        step, stride = self.first, 1
        if worker is not None:
            step, stride = self.first + worker.id, worker.num_workers
        while True:
            yield [make_batch(self.bank, recipe, (*self.seed, step, i)) for i, recipe in enumerate(self.recipes)]
            step += stride


def loader(
    bank: Bank, recipes: tuple[Recipe | PhotoRecipe, ...], seed: tuple[int, ...], first: int, workers: int
) -> Iterator[list[Batch]]:
    """Batches from `workers` background processes, in order."""
    stream = Stream(bank, recipes, seed, first)
    ahead = 3 if workers else None
    pinned = torch.cuda.is_available()
    return iter(DataLoader(stream, None, num_workers=workers, prefetch_factor=ahead, pin_memory=pinned))


def make_batch(bank: Bank, recipe: Recipe | PhotoRecipe, seed: tuple[int, ...]) -> Batch:
    """The batch of one step; `seed` is that of the run, stage, rank, step and recipe."""
    if isinstance(recipe, PhotoRecipe):
        return _photos(bank, recipe, seed)
    rng = np.random.default_rng(seed)
    procedural_n = rng.random(recipe.clips) < recipe.procedural
    scenario = recipe.scenario
    if recipe.shortest:
        run, stage, _, *more = seed  # of no rank, so that none waits for another's longer clip
        length = np.random.default_rng((run, stage, *more)).integers(recipe.shortest, scenario.frames + 1)
        scenario = replace(scenario, frames=int(length))
    clips = [
        render((*seed, i), Bank() if procedural else bank, scenario) for i, procedural in enumerate(procedural_n)
    ]
    return (_images if recipe.single_images else _clips)(rng, clips, recipe.targets)


def _photos(bank: Bank, recipe: PhotoRecipe, seed: tuple[int, ...]) -> Batch:
    rng = np.random.default_rng(seed)
    pictures: list[NDArray[np.uint8]] = []
    masks: list[NDArray[np.bool_]] = []
    image_of_m: list[int] = []
    while len(pictures) < recipe.photos:
        picture, label_hw = image_of(rng, any_photo(rng, bank.photos), recipe.size_px)
        numbers = rng.permutation(_largest(label_hw, 12))[: recipe.targets + 1]
        masks += [label_hw == number for number in numbers]
        image_of_m += [len(pictures)] * len(numbers)
        pictures += [picture] if len(numbers) else []
    chosen_m = as_many(rng, len(masks), recipe.targets * recipe.photos)
    masks_1mhw = np.stack([masks[i] for i in chosen_m])[None]
    return _batch(np.stack(pictures)[None].transpose(0, 1, 4, 2, 3), masks_1mhw, [image_of_m[i] for i in chosen_m])


def as_many(rng: np.random.Generator, found: int, wanted: int) -> list[int]:
    """`wanted` of `found` objects, some twice where there are too few.

    A GPU makes its kernels anew for each shape, in seconds: so all steps of a recipe have as many objects.
    """
    order = rng.permutation(found)
    return [int(order[i % found]) for i in range(wanted)]


def _clips(rng: np.random.Generator, clips: list[Clip], targets: int) -> Batch:
    seen = [(i, number) for i, clip in enumerate(clips) for number in clip.targets[: targets + 1]]
    chosen = [seen[k] for k in as_many(rng, len(seen), targets * len(clips))]
    masks_mthw = [_seen(clips[i].mask_thw(number)) for i, number in chosen]
    frames_nthwc = np.stack([clip.frames_thwc for clip in clips])
    return _batch(frames_nthwc.transpose(1, 0, 4, 2, 3), np.stack(masks_mthw, 1), [i for i, _ in chosen])


def _images(rng: np.random.Generator, clips: list[Clip], targets: int) -> Batch:
    pictures = [picture for clip in clips for picture in clip.frames_thwc]
    labels = [label_hw for clip in clips for label_hw in clip.labels_thw]
    seen = [(i, number) for i, label_hw in enumerate(labels) for number in _largest(label_hw, targets + 1)]
    chosen = [seen[k] for k in as_many(rng, len(seen), targets * len(pictures))]
    masks_1mhw = np.stack([labels[i] == number for i, number in chosen])[None]
    return _batch(np.stack(pictures)[None].transpose(0, 1, 4, 2, 3), masks_1mhw, [i for i, _ in chosen])


def _largest(label_hw: NDArray[np.uint8], count: int) -> list[int]:
    """Up to `count` objects that are large enough to be prompted."""
    share_n = np.bincount(label_hw.ravel(), minlength=2)[1:] / label_hw.size
    fit = np.flatnonzero((share_n > PROMPTABLE_SHARE) & (share_n < 0.6))
    return [int(i) + 1 for i in sorted(fit, key=lambda i: -share_n[i])[:count]]


def _seen(mask_thw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A few stray pixels are not an object."""
    large_t11 = mask_thw.mean((1, 2), keepdims=True) > SMALLEST_VISIBLE
    seen_thw: NDArray[np.bool_] = mask_thw & large_t11
    return seen_thw


def _batch(frames_tn3hw: NDArray[np.uint8], masks_tmhw: NDArray[np.bool_], clip_of: list[int]) -> Batch:
    frames = torch.from_numpy(np.ascontiguousarray(frames_tn3hw))
    return Batch(frames, torch.from_numpy(np.ascontiguousarray(masks_tmhw)), torch.tensor(clip_of))
