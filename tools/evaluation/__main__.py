"""J, F and object score of any model, on rendered clips or a folder of clips with masks: `tools/eval --help`."""

import argparse
import time
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import torch

from evaluation.clips import VALIDATION_SEED, TrueClip, from_folder, rendered
from evaluation.follow import Result, follow
from evaluation.report import HEADER, line, mean, write_sheet
from evaluation.suite import HEADER as SUITE_HEADER
from evaluation.suite import judge_suite, row
from tracker.config import EdgesFrom, EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.models.build import load_model


def main() -> None:
    """Load the model, follow every clip, print the table."""
    arguments = parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = ModelConfig(arguments.model, arguments.checkpoint, arguments.device, arguments.image_size)
    engine = Engine(load_model(config), EngineConfig(edges=arguments.edges))
    if arguments.suite:
        suite(engine, arguments)
        return
    results: list[Result] = []
    frames, began = 0, time.perf_counter()
    print(HEADER)
    for clip in clips(arguments):
        found = follow(engine, clip, arguments.prompt)
        results += found
        print("\n".join(map(line, found)), flush=True)
        frames += len(clip.frames)
        if arguments.sheets:
            write_sheet(arguments.sheets / f"{clip.name}-{arguments.prompt}.png", clip, found)
    print(mean(results))
    print(f"{arguments.model}, {arguments.prompt} prompt: {frames} frames in {time.perf_counter() - began:.0f} s")


def suite(engine: Engine, arguments: argparse.Namespace) -> None:
    """A table with a line for each set, each clip's line above it."""
    print(SUITE_HEADER)
    rows = []
    for judged in judge_suite(engine, arguments.suite, arguments.sheets, arguments.only or (), arguments.prompt):
        print("\n".join(map(line, judged.followed)))
        rows.append(row(judged))
        print(rows[-1], flush=True)
    print("\n".join([SUITE_HEADER, *rows]))


def clips(arguments: argparse.Namespace) -> Iterable[TrueClip]:
    """The clips asked for."""
    if arguments.folder:
        return from_folder(arguments.folder, arguments.only)
    return rendered(arguments.clips, arguments.frames, arguments.vanish, arguments.seed)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="tools/eval", description=__doc__)
    top.add_argument("--model", default="nano", help="a name from `trackerd models list`")
    top.add_argument("--checkpoint", help="a local file instead of the model's own weights")
    top.add_argument("--device", default="auto")
    top.add_argument("--image-size", type=int, help="instead of the model's own")
    top.add_argument("--threads", type=int, help="of the model, on a CPU")
    top.add_argument("--edges", choices=get_args(EdgesFrom), default="auto", help="of masks: engine.edges")
    top.add_argument("--prompt", choices=("box", "point", "mask"), default="box", help="on an object's first frame")
    top.add_argument("--folder", type=Path, help="clips with masks: CLIP/masks, DAVIS or SA-V; else rendered clips")
    top.add_argument(
        "--suite", type=Path, help="folder with splits.json: all that it lists for judging; --only: sets"
    )
    top.add_argument("--only", nargs="+", help="names of clips in --folder, or of sets in --suite")
    top.add_argument("--clips", type=int, default=64, help="how many rendered clips")
    top.add_argument("--frames", type=int, default=32, help="of each rendered clip")
    top.add_argument(
        "--vanish", action="store_true", help="rendered clips whose object goes away, most often to return"
    )
    top.add_argument(
        "--seed", type=int, default=VALIDATION_SEED, help="of rendered clips: take another to choose settings by"
    )
    top.add_argument("--sheets", type=Path, help="write a contact sheet for each clip into this folder")
    return top


if __name__ == "__main__":
    main()
