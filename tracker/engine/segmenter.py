"""Masks on one picture, without memory: what `SAM2ImagePredictor` does, with the tracker's network.

Pictures are resized as upstream's image predictor does it (bilinear, antialias), so these features are not those of
the tracker. Encoded pictures and the candidates' logits are kept for a while, both bounded.
"""

import secrets
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tracker.engine import forward, prompts
from tracker.engine.edges import Edges
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.preprocess import moments
from tracker.engine.prompting import CLAMP
from tracker.errors import RefGone
from tracker.images import imaging
from tracker.images.types import Image
from tracker.masks.types import F32, U8, Bool
from tracker.protocol.prompt import Prompt
from tracker.protocol.prompts import checked

KEPT_PICTURES = 8  # 16 MB each at 1024 pixels
KEPT_LOGITS = 64  # 256 KB each at 1024 pixels
MASK_LOGIT = 10.0  # what a given mask counts as, up and down (`SAM2Base._use_mask_as_output`)


class Decoded(NamedTuple):
    """m masks for each of b prompts: logits float32 [b, m, h4, w4], predicted IoU float32 [b, m]."""

    logits_bmhw: Tensor
    scores_bm: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """One answer to a prompt. `logits_hw` as in `ObjectMask`; `ref` names it for a correction."""

    logits_hw: F32
    score: float
    ref: str


class Segmenter:
    """Prompts on pictures, answered by an engine's network. Call it from the engine's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._encoded: OrderedDict[Hashable, Features] = OrderedDict()
        self._logits: OrderedDict[str, Tensor] = OrderedDict()

    def candidates(
        self, key: Hashable, image: Image, prompt: Prompt, *, ref: str | None = None, multimask: bool = False
    ) -> list[Candidate]:
        """Masks for a prompt, best first: three with `multimask`, else one.

        `key` names the picture: a second prompt under the same key costs the decoder only. `ref` is a candidate
        that is corrected; it can also stand without a prompt. Raises BadPrompt, and RefGone for a `ref` that is
        no longer, or was never, at hand.
        """
        net = self._engine.model.net
        before_b1hw = self._before(ref)
        marked = len(prompt.points_xy) > 0 or prompt.box_xyxy is not None
        if marked or before_b1hw is None:
            prompt = checked(prompt, image.size_wh, correction=before_b1hw is not None)
        if prompt.mask_hw is not None:
            before_b1hw = mask_logits(prompt.mask_hw, net.sam_prompt_encoder.mask_input_size).to(net.device)
        points = prompts.model_points(prompt, image.size_wh, self._engine.model.image_size)
        clicked = points.as_batch(net.device) if len(points.labels_n) else None
        with self._engine.computing():
            features = self._features(key, image)
            decoded = decode(self._engine, features, clicked, before_b1hw, multimask=multimask)
        scores_m = decoded.scores_bm[0]
        logits_mhw = decoded.logits_bmhw[0]
        best_first = scores_m.argsort(descending=True, stable=True).tolist()
        edges = Edges(features.pictures_nchw)
        return [self._candidate(logits_mhw[i], float(scores_m[i]), edges) for i in best_first]

    def _before(self, ref: str | None) -> Tensor | None:
        if ref is None:
            return None
        if ref not in self._logits:
            raise RefGone(f"ref: {ref!r} is not at hand; the newest {KEPT_LOGITS} candidates are: prompt again")
        self._logits.move_to_end(ref)
        return self._logits[ref][None, None].clamp(-CLAMP, CLAMP)

    def _features(self, key: Hashable, image: Image) -> Features:
        if key not in self._encoded:
            self._encoded[key] = encode(self._engine, imaging.to_rgb(image))
        self._encoded.move_to_end(key)
        if len(self._encoded) > KEPT_PICTURES:
            self._encoded.popitem(last=False)
        return self._encoded[key]

    def _candidate(self, logits_hw: Tensor, score: float, edges: Edges) -> Candidate:
        ref = secrets.token_hex(8)
        self._logits[ref] = logits_hw
        if len(self._logits) > KEPT_LOGITS:
            self._logits.popitem(last=False)
        return Candidate(edges.along(logits_hw.cpu().numpy(), 0), score, ref)


def encode(engine: Engine, rgb_hwc: U8) -> Features:
    """Features of one picture, its coarse map as the decoder takes it (`SAM2ImagePredictor.set_image`)."""
    side, device = engine.model.image_size, engine.model.device
    image_nchw = torch.from_numpy(rgb_hwc.copy()).to(device).permute(2, 0, 1)[None].float() / 255
    image_nchw = F.interpolate(image_nchw, (side, side), mode="bilinear", align_corners=False, antialias=True)
    mean_311, std_311 = moments(device)
    features = engine.encode_tensor((image_nchw - mean_311) / std_311)
    coarse_nchw = forward.no_memory(engine.model.net, features)
    return replace(features, coarse_nchw=coarse_nchw)


def decode(
    engine: Engine,
    features: Features,
    points: dict[str, Tensor] | None,
    logits_b1hw: Tensor | None = None,
    *,
    multimask: bool,
) -> Decoded:
    """b prompts on one encoded picture (`SAM2ImagePredictor._predict`).

    `points`: `point_coords` float32 [b, p, 2] in pixels of the model's image, `point_labels` int32 [b, p].
    `logits_b1hw`: masks that are corrected.
    """
    net = engine.model.net
    clicked = None if points is None else (points["point_coords"], points["point_labels"])
    sparse, dense = net.sam_prompt_encoder(points=clicked, boxes=None, masks=logits_b1hw)
    logits_bmhw, scores_bm, _, _ = net.sam_mask_decoder(
        image_embeddings=features.coarse_nchw,
        image_pe=net.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
        repeat_image=clicked is not None and len(clicked[0]) > 1,
        high_res_features=[features.fine_nchw, features.middle_nchw],
    )
    return Decoded(logits_bmhw.float(), scores_bm.float())


def mask_logits(mask_hw: Bool, size_hw: tuple[int, int]) -> Tensor:
    """A mask at source size as the previous mask of a correction: float32 [1, 1, h4, w4]."""
    mask_11hw = torch.as_tensor(mask_hw)[None, None].float()
    resized = F.interpolate(mask_11hw, size_hw, mode="bilinear", align_corners=False, antialias=True)
    return torch.where(resized >= 0.5, MASK_LOGIT, -MASK_LOGIT)
