"""The network under test and its objects. Speed does not depend on the weights, so what is not here is random."""

import argparse
from typing import Any

import numpy as np
import torch

from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.memory import ObjectMemory
from tracker.engine.models import build as models
from tracker.engine.models import zoo
from tracker.protocol.prompt import Prompt

SIZE_WH = (100, 100)


def network(args: argparse.Namespace) -> Any:
    torch.manual_seed(0)
    net = models.network(zoo.config_path(args.model), args.image_size)
    net.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    if zoo.checkpoint_path(args.model).is_file():
        models.load_weights(net, zoo.checkpoint_path(args.model), args.model)
    return net.to(models.pick_device(args.device))


def prompted(engine: Engine, features: Features, stream: int, k: int) -> ObjectMemory:
    return engine.prompt(ObjectMemory(), features, stream, 0, box(k), SIZE_WH)[0]


def box(k: int) -> Prompt:
    x = 5 + 5 * (k % 12)
    return Prompt(box_xyxy=np.array([x, x, x + 30, x + 30], np.float32))
