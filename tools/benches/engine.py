"""The engine beside the official predictor, in one process, taking turns frame by frame, on the same weights and
tensors. `wall` is what a clock says; `cpu` is the processor time of this process."""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sam2 import sam2_video_predictor
from sam2.build_sam import build_sam2_video_predictor

from benches.network import SIZE_WH, box, network, prompted
from benches.report import Row
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.models import build as models
from tracker.engine.models import zoo

WARM_UP = 18  # frames until the memory is full


def run(args: argparse.Namespace, objects: int) -> Row:
    """Seconds per frame of `objects` on each of the streams; one frame of each stream in turn."""
    net = network(args)
    images = torch.rand(WARM_UP + args.frames + 1, 3, net.image_size, net.image_size, device=net.device)
    engine = Engine(models.Model(args.model, net), EngineConfig(mode=args.mode, fill_hole_area=0))
    if net.device.type == "cuda":
        engine.warm_up()  # records the steps, which are replayed from then on
    sides = {
        "ours": _ours(engine, images, objects, args.streams),
        "official": _official(args, net, images, objects, args.streams),
    }
    seconds = _taking_turns(sides, args.frames, net.device)
    if args.profile:
        _trace(_ours(engine, images, objects, args.streams), args.profile)
    row: Row = {
        "model": args.model,
        "image_size": net.image_size,
        "objects": objects,
        "streams": args.streams,
        "mode": args.mode,
        "dtype": engine.describe()["dtype"],
        "device": str(net.device),
        "official_is": "compiled" if args.compiled else "eager",
        "threads": args.threads,
    }
    for name, (wall, cpu) in seconds.items():
        row[f"{name}_wall_ms"] = round(statistics.median(wall) * 1e3, 1)
        row[f"{name}_spread_ms"] = round((max(wall) - min(wall)) * 1e3, 1)
        row[f"{name}_cpu_ms"] = round(statistics.median(cpu) * 1e3, 1)
    row["times_wall"] = round(row["official_wall_ms"] / row["ours_wall_ms"], 2)
    row["times_cpu"] = round(row["official_cpu_ms"] / row["ours_cpu_ms"], 2)
    if net.device.type == "cuda":
        row["device_mib"] = torch.cuda.max_memory_reserved() >> 20
    return row


def _taking_turns(
    sides: dict[str, Iterator[None]], frames: int, device: torch.device
) -> dict[str, tuple[list[float], list[float]]]:
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in sides}
    for frame in range(WARM_UP + frames):
        for name, side in sides.items():
            wall, cpu = time.perf_counter(), time.process_time()
            next(side)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if frame >= WARM_UP:
                seconds[name][0].append(time.perf_counter() - wall)
                seconds[name][1].append(time.process_time() - cpu)
    return seconds


def _ours(engine: Engine, images: torch.Tensor, objects: int, streams: int) -> Iterator[None]:
    features = engine.encode_tensor(images[:1].expand(streams, -1, -1, -1))
    tracks = [prompted(engine, features, s, k) for s in range(streams) for k in range(objects)]
    for frame in range(1, len(images)):
        features = engine.encode_tensor(images[frame : frame + 1].expand(streams, -1, -1, -1))
        items = [(track, n // objects, frame) for n, track in enumerate(tracks)]
        tracks = [track for track, _ in engine.propagate(items, features)]
        yield


def _official(
    args: argparse.Namespace, net: Any, images: torch.Tensor, objects: int, streams: int
) -> Iterator[None]:
    predictor = build_sam2_video_predictor(
        f"//{zoo.config_path(args.model)}",
        device=str(net.device),
        hydra_overrides_extra=[f"++model.image_size={net.image_size}"],
        vos_optimized=args.compiled,
    )
    predictor.load_state_dict(net.state_dict())
    predictor.fill_hole_area = 0
    sam2_video_predictor.load_video_frames = lambda **_: (images, SIZE_WH[1], SIZE_WH[0])
    sam2_video_predictor.tqdm = lambda frames, **_: frames
    videos = []
    for _ in range(streams):
        with _as_its_authors_do(net.device):
            state = predictor.init_state("none")
            for k in range(objects):
                predictor.add_new_points_or_box(state, 0, k, box=box(k).box_xyxy)
            videos.append(predictor.propagate_in_video(state, 0))
            next(videos[-1])  # the prompted frame
    for _ in range(len(images) - 1):
        with _as_its_authors_do(net.device):
            for video in videos:
                next(video)
        yield


def _as_its_authors_do(device: torch.device) -> torch.autocast:
    """bfloat16 on a GPU."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")


def _trace(steps: Iterator[None], path: Path) -> None:
    """The trace, and two tables: what each stage takes and what each operation does, in three frames."""
    for _ in range(WARM_UP):
        next(steps)
    with torch.profiler.profile() as profile:
        for _ in range(3):
            next(steps)
    profile.export_chrome_trace(str(path))
    averages = profile.key_averages()
    stages = sorted((row for row in averages if row.is_user_annotation), key=lambda row: -row.cpu_time_total)
    print("| stage | ms a frame |\n|---|--:|")
    for row in stages:
        print(f"| {row.key} | {max(row.cpu_time_total, row.device_time_total) / 3e3:.2f} |")
    print(averages.table(sort_by="self_cpu_time_total", row_limit=20))
