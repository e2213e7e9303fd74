"""Whether memory stays flat over as many frames as are asked for."""

import argparse

import torch

from benches.network import network, prompted
from benches.report import Row
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.memory import nbytes
from tracker.engine.models import build as models


def run(args: argparse.Namespace, objects: int) -> Row:
    """Memory after a tenth of the frames and at the end, over `--frames` frames without an end in sight."""
    net = network(args)
    engine = Engine(models.Model(args.model, net), EngineConfig(mode=args.mode))
    image = torch.rand(1, 3, net.image_size, net.image_size, device=net.device)
    features = engine.encode_tensor(image)
    tracks = [prompted(engine, features, 0, k) for k in range(objects)]
    seen: dict[int, tuple[int, int]] = {}
    for frame in range(1, args.frames + 1):
        results = engine.propagate([(track, 0, frame) for track in tracks], features)
        tracks = [track for track, _ in results]
        if frame in (args.frames // 10, args.frames):
            seen[frame] = engine.memory()["used_bytes"], nbytes(tracks)
    (early, early_tracks), (late, late_tracks) = seen.values()
    return {
        "model": args.model,
        "objects": objects,
        "frames": args.frames,
        "mib_after_a_tenth": early >> 20,
        "mib_at_the_end": late >> 20,
        "growth_percent": round(100 * (late / early - 1), 2),
        "tracks_growth_bytes": late_tracks - early_tracks,
    }
