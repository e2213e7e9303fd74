"""Pictures for the tests of single images, and the official image predictor for models of any size."""

import warnings
from typing import Any

import numpy as np
from sam2.sam2_image_predictor import SAM2ImagePredictor

from helpers.sides import random_network
from tracker.engine.models import build as models
from tracker.engine.models import zoo
from tracker.masks.types import U8

SIZE_WH = (150, 110)


def picture() -> U8:
    """Two coloured boxes on noise, uint8 [h, w, 3]."""
    rng = np.random.default_rng(0)
    rgb_hwc = rng.integers(20, 90, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    rgb_hwc[30:70, 40:90] = (220, 160, 40)
    rgb_hwc[60:100, 100:140] = (40, 120, 230)
    return rgb_hwc


def at_any_size(predictor: SAM2ImagePredictor) -> SAM2ImagePredictor:
    """It hard-codes the feature sizes of 1024 pixels."""
    side = predictor.model.image_size
    predictor._bb_feat_sizes = [(side // stride, side // stride) for stride in (4, 8, 16)]
    return predictor


def network(name: str, image_size: int) -> Any:
    """With its weights where they come with the package, else as initialised with a fixed seed."""
    net = random_network(name, image_size)
    if zoo.checkpoint_path(name).is_file():
        models.load_weights(net, zoo.checkpoint_path(name), name)
    return net


def official(make: Any, *args: Any, **kwargs: Any) -> Any:
    """`make(*args, **kwargs)`, without the warning that torch.jit.script, which upstream uses, is deprecated."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return make(*args, **kwargs)
