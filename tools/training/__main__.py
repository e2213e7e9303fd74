"""Train and export `nano`: see `tools/train train --help`. Start an interrupted training again: it goes on."""

import argparse
from pathlib import Path

import cv2
import torch

from training.curve import curve
from training.cutouts import load_bank
from training.export import export
from training.model import new_run
from training.train import Trainer, describe, plan

MODELS = Path(__file__).parents[2] / "tracker" / "models"


def main() -> None:
    """Parse and dispatch."""
    arguments = parser().parse_args()
    if arguments.verb == "train":
        train(arguments)
    elif arguments.verb == "export":
        print(export(arguments.out / "last.pt", arguments.to, arguments.score_shift))
    else:
        arguments.to.write_text(curve(arguments.out / "log.jsonl"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="tools/train", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    trains = verbs.add_parser("train", help="train from nothing, or go on from the last checkpoint in --out")
    exports = verbs.add_parser("export", help="write the averaged weights, rounded to fp16, as safetensors")
    curves = verbs.add_parser("curve", help="draw the training log as SVG")
    for verb in (trains, exports, curves):
        verb.add_argument("--out", type=Path, default=Path("runs/nano"), help="checkpoints, log and cache")
    trains.add_argument(
        "--textures", type=Path, help="folder of videos or images to paint with; none: all procedural"
    )
    trains.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    trains.add_argument("--seed", type=int, default=0)
    trains.add_argument("--workers", type=int, default=1, help="rendering processes; about 12 feed one GPU")
    trains.add_argument("--ranks", type=int, default=1, help="training processes that share their gradients")
    trains.add_argument("--threads", type=int, default=1, help="of each training process, on a CPU")
    trains.add_argument("--weights", type=Path, help="begin with these exported weights instead of from nothing")
    trains.add_argument(
        "--first-stage", default="images-128", help="where to begin with them (default %(default)s)"
    )
    trains.add_argument("--scale", type=int, default=1, help="clips a step, as a multiple; 8 or more on a GPU")
    exports.add_argument("--to", type=Path, default=MODELS / "nano.safetensors")
    exports.add_argument("--score-shift", type=float, default=0.0, help="added to the object-score logit")
    curves.add_argument("--to", type=Path, default=Path("docs/nano-curve.svg"))
    return top


def train(arguments: argparse.Namespace) -> None:
    """Build or resume, then run the curriculum to its end, in as many processes as there are ranks."""
    arguments.out.mkdir(parents=True, exist_ok=True)
    load_bank(arguments.textures, arguments.out / "cache", arguments.seed)  # fills the cache once for all ranks
    if arguments.ranks == 1:
        train_rank(0, arguments)
    else:
        (arguments.out / "meeting").unlink(missing_ok=True)
        torch.multiprocessing.spawn(train_rank, (arguments,), arguments.ranks)


def train_rank(rank: int, arguments: argparse.Namespace) -> None:
    """One process of the training. On a shared CPU, ranks of one thread each wait for each other once a step;
    one rank of many threads does so in every operation, and stands still when another program takes a core.
    """
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    if arguments.ranks > 1:
        meeting = f"file://{(arguments.out / 'meeting').resolve()}"
        torch.distributed.init_process_group("gloo", meeting, rank=rank, world_size=arguments.ranks)
    bank = load_bank(arguments.textures, arguments.out / "cache", arguments.seed)
    stages = plan(arguments.scale)
    run = new_run(torch.device(arguments.device), arguments.seed, arguments.weights)
    run.stage = [stage.name for stage in stages].index(arguments.first_stage)
    if (arguments.out / "last.pt").exists():
        run.load(arguments.out / "last.pt")
    (arguments.out / "plan.json").write_text(describe(stages))
    found = f"{len(bank.cutouts_hwc)} cut-outs, {len(bank.tracks)} tracks"
    print(f"rank {rank}, stage {run.stage}, step {run.step}; {found}", flush=True)
    Trainer(run, bank, arguments.out, arguments.seed, arguments.workers).train(stages)


if __name__ == "__main__":
    main()
