"""The engine and the official predictor behind one small interface, so that a scenario runs on both and their masks
can be compared frame by frame and object by object."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sam2 import sam2_video_predictor
from sam2.build_sam import build_sam2_video_predictor
from torch import Tensor

from tracker.config import EngineConfig
from tracker.engine import forward
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.memory import ObjectMemory
from tracker.engine.models import build as models
from tracker.engine.models import zoo
from tracker.engine.preprocess import normalise
from tracker.masks.types import F32
from tracker.protocol.prompt import Prompt

SIZE_WH = (160, 120)  # of the source frames that prompts are given on
FRAMES = 18  # the 15 pointers are full at the 17th

Key = tuple[int, int, int]  # how many calls came before, object, frame


@cache
def video(side: int) -> Tensor:
    """Normalised frames [FRAMES, 3, side, side]: two textured discs that cross on a textured ground."""
    rng = np.random.default_rng(5)
    ground = rng.integers(40, 120, (16, 16, 3)).repeat(side // 16, 0).repeat(side // 16, 1)
    skins = rng.integers(100, 255, (2, side, side, 3))
    y, x = np.mgrid[:side, :side] / side
    frames = []
    for t in range(FRAMES):
        frame = ground.copy()
        for skin, (cx, cy) in zip(skins, ((0.25 + 0.02 * t, 0.4), (0.8 - 0.02 * t, 0.6)), strict=True):
            inside = (x - cx) ** 2 + (y - cy) ** 2 < 0.03
            frame[inside] = skin[inside]
        frames.append(frame)
    return normalise(torch.from_numpy(np.stack(frames).astype(np.uint8))).contiguous()


@dataclass(frozen=True)
class Pair:
    """One network as engine and as official predictor, and the video's features from each one's own encoder."""

    engine: Engine
    predictor: Any
    features: Features
    official_features: Mapping[int, Any]

    @classmethod
    def make(
        cls,
        name: str,
        image_size: int,
        *,
        plain: bool,
        trained: bool = True,
        score_shift: float = 0.0,
        dtype: Literal["float32", "bfloat16"] = "float32",
        device: str = "cpu",
    ) -> "Pair":
        """`trained`: with the model's weights if they are here; else as initialised. `score_shift` is added to the
        object score: at a size far from its own a trained model calls much of what it follows gone."""
        net = random_network(name, image_size)
        if trained and zoo.checkpoint_path(name).is_file():
            models.load_weights(net, zoo.checkpoint_path(name), name)
        net.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += score_shift
        net = net.to(device)
        engine = Engine(
            models.Model(name, net), EngineConfig(fill_hole_area=0, edges="model", dtype=dtype), plain=plain
        )
        predictor = official(zoo.config_path(name), image_size).to(device)
        predictor.load_state_dict(net.state_dict())
        images = video(image_size).to(device)
        with torch.inference_mode(), precision(engine):
            cached = {t: (images[t : t + 1], predictor.forward_image(images[t : t + 1])) for t in range(FRAMES)}
        return cls(engine, predictor, one_by_one(engine, images), cached)


def precision(engine: Engine) -> AbstractContextManager[None]:
    """The engine's precision, for the official side: autocast, as its authors use it."""
    return torch.autocast(engine.model.device.type, torch.bfloat16, enabled=engine.dtype is torch.bfloat16)


def one_by_one(engine: Engine, images_nchw: Tensor) -> Features:
    """Features of pictures that were encoded singly, as the official predictor does it: a batch of them differs in
    the last bits."""
    parts = [engine.encode_tensor(image[None]) for image in images_nchw]
    fine, middle, coarse = (
        torch.cat([getattr(part, level) for part in parts]) for level in ("fine_nchw", "middle_nchw", "coarse_nchw")
    )
    return Features(fine, middle, coarse, parts[0].position_1chw)


class Unrounded(ModuleType):
    """torch, to the official predictor; where it would round memories to bfloat16, they stay float32."""

    bfloat16 = torch.float32

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def keep_memories_unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides keep memories in bfloat16, which turns a difference in a last bit into 1e-3 of the logits'
    standard deviation now and then, and goes on from there. Without that, what is left is the arithmetic's."""
    monkeypatch.setattr(forward, "MEMORY_DTYPE", torch.float32)
    monkeypatch.setattr(sam2_video_predictor, "torch", Unrounded("torch"))


def random_network(name: str, image_size: int) -> Any:
    """Weights as initialised with a fixed seed; an object score of about 4, or every mask would be empty."""
    torch.manual_seed(3)
    net = models.network(zoo.config_path(name), image_size)
    net.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    return net


def official(config: Path, image_size: int) -> Any:
    """The official builder's predictor, hole filling off (it needs a CUDA extension), corrections durable."""
    predictor = build_sam2_video_predictor(
        f"//{config}",
        device="cpu",
        hydra_overrides_extra=[
            f"++model.image_size={image_size}",
            "++model.add_all_frames_to_correct_as_cond=true",
        ],
    )
    predictor.fill_hole_area = 0
    return predictor


def picture_masks(logits_hw: F32) -> Tensor:
    """Logits at the size of the source frame, as the official predictor returns them."""
    logits, size = torch.from_numpy(np.array(logits_hw))[None, None], (SIZE_WH[1], SIZE_WH[0])
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0, 0]


@dataclass
class Ours:
    """The engine, driven as the daemon drives it: frame by frame, rewound where a correction lies in the past."""

    pair: Pair
    direction: int = 1
    tracks: dict[int, ObjectMemory] = field(default_factory=dict)
    masks: dict[Key, Tensor] = field(default_factory=dict)
    calls: int = 0

    def prompt(self, obj: int, frame: int, prompt: Prompt) -> None:
        track = self.tracks.get(obj, ObjectMemory(self.direction))
        track, mask = self.pair.engine.prompt(track, self.pair.features, frame, frame, prompt, SIZE_WH)
        self.tracks[obj] = track.rewind(frame) if track.is_past(frame) else track
        self._keep(obj, frame, mask.logits_hw)

    def follow(self, start: int, stop: int) -> None:
        self.calls += 1
        for frame in range(start, stop + self.direction, self.direction):
            new = [
                obj for obj, track in self.tracks.items() if track.last_frame != frame and not track.is_past(frame)
            ]
            items = [(self.tracks[obj], frame, frame) for obj in new]
            for obj, (track, _) in zip(new, self.pair.engine.propagate(items, self.pair.features), strict=True):
                self.tracks[obj] = track
            for obj, track in self.tracks.items():
                entry = track.find(frame)
                assert entry is not None
                assert entry.mask is not None
                self._keep(obj, frame, entry.mask.logits_hw)

    def remove(self, obj: int) -> None:
        del self.tracks[obj]

    def _keep(self, obj: int, frame: int, logits_hw: F32) -> None:
        self.masks[self.calls, obj, frame] = picture_masks(logits_hw)


@dataclass
class Official:
    """`SAM2VideoPredictor` on the same tensors, without video files. Frame t is picture `(t + shift) % FRAMES`."""

    pair: Pair
    direction: int = 1
    frames: int = FRAMES
    shift: int = 0
    masks: dict[Key, Tensor] = field(default_factory=dict)
    calls: int = 0

    def __post_init__(self) -> None:
        self._pictures = [(t + self.shift) % FRAMES for t in range(self.frames)]
        with self._without_files():
            self.state = self.pair.predictor.init_state("none")
        cached = self.pair.official_features
        self.state["cached_features"] = {t: cached[picture] for t, picture in enumerate(self._pictures)}

    def prompt(self, obj: int, frame: int, prompt: Prompt) -> None:
        with precision(self.pair.engine):
            _, ids, masks = self._prompted(obj, frame, prompt)
        self.masks[self.calls, obj, frame] = masks[ids.index(obj), 0].cpu()

    def _prompted(self, obj: int, frame: int, prompt: Prompt) -> Any:
        if prompt.mask_hw is not None:
            return self.pair.predictor.add_new_mask(self.state, frame, obj, prompt.mask_hw)
        return self.pair.predictor.add_new_points_or_box(
            self.state,
            frame,
            obj,
            points=prompt.points_xy,
            labels=prompt.labels_n,
            box=prompt.box_xyxy,
            clear_old_points=prompt.replace or prompt.box_xyxy is not None,
        )

    def follow(self, start: int, stop: int) -> None:
        self.calls += 1
        with self._without_files(), precision(self.pair.engine):
            for frame, ids, masks in self.pair.predictor.propagate_in_video(
                self.state, start, abs(stop - start), reverse=self.direction < 0
            ):
                for obj, mask in zip(ids, masks, strict=True):
                    self.masks[self.calls, obj, frame] = mask[0].cpu()

    def remove(self, obj: int) -> None:
        self.pair.predictor.remove_object(self.state, obj)

    @contextmanager
    def _without_files(self) -> Iterator[None]:
        """The predictor's loader gives our tensors; its progress bars (a thread of their own) stay away."""
        images = video(self.pair.predictor.image_size)[self._pictures]
        kept = sam2_video_predictor.load_video_frames, sam2_video_predictor.tqdm
        sam2_video_predictor.load_video_frames = lambda **_: (images, SIZE_WH[1], SIZE_WH[0])
        sam2_video_predictor.tqdm = lambda frames, **_: frames
        try:
            yield
        finally:
            sam2_video_predictor.load_video_frames, sam2_video_predictor.tqdm = kept


@dataclass(frozen=True)
class Difference:
    """How far two runs are apart."""

    of_std: float  # largest difference of any logit, in standard deviations of all logits
    same_pixels: float  # part of mask pixels that agree, on the worst frame
    mixed: float  # part of the frames that have foreground and background: others would agree too easily
    iou: float  # of the masks, on the worst frame
    mean_iou: float


def compare(ours: Mapping[Key, Tensor], theirs: Mapping[Key, Tensor]) -> Difference:
    assert ours.keys() == theirs.keys()
    a, b = (torch.stack([side[key] for key in sorted(ours)]) for side in (ours, theirs))
    same = ((a > 0) == (b > 0)).float().mean((1, 2))
    filled = (b > 0).float().mean((1, 2))
    both, either = ((a > 0) & (b > 0)).sum((1, 2)), ((a > 0) | (b > 0)).sum((1, 2))
    ious = torch.where(either > 0, both / either, 1.0)
    return Difference(
        of_std=float((a - b).abs().max() / b.std()),
        same_pixels=float(same.min()),
        mixed=float(((filled > 0) & (filled < 1)).float().mean()),
        iou=float(ious.min()),
        mean_iou=float(ious.mean()),
    )
