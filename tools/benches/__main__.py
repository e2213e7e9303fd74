"""Measure: the engine beside the official predictor and beside what the device could do, memory over many frames,
the daemon end to end, geometry, bfloat16, what kill -9 loses.

    tools/bench engine   [--model nano] [--objects 1,8] [--streams 1] [--mode exact] [--threads 2]
    tools/bench roofline [--model nano,sam2.1_hiera_tiny] [--objects 1,16] [--frames 3]
    tools/bench soak     [--frames 100000] [--objects 4]
    tools/bench daemon   [--objects 8] [--streams 1] [--fps 30] [--seconds 20]
    tools/bench geometry
    tools/bench gpu      [--seconds 600] [--report gpu-report.md]
    tools/bench precision --folder CLIPS [--box VIDEO=x0,y0,x1,y1]
    tools/bench kill     [--runs 50]
    tools/bench zones    [--model nano] [--scenes 20]

Prints a Markdown table, and JSON with --json FILE. `wall` and every latency is what a clock says, and means nothing
where the machine has other work; `cpu` is processor time. What the columns mean, each kind's own --help says.
"""

import argparse
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benches import daemon, engine, geometry, gpu, kill, precision, report, roofline, soak, zones
from tracker.engine.models import zoo

Run = Callable[[argparse.Namespace, int], report.Row]
Rows = Callable[[argparse.Namespace], Iterable[report.Row]]


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(args.threads)
    rows = list(args.rows(args))
    report.print_table(rows)
    if args.json:
        report.write_json(args.json, rows)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = top.add_subparsers(required=True)

    kind = _counted(kinds, "engine", engine, "1,8")
    _of_the_model(kind)
    kind.add_argument("--streams", type=int, default=1, help="the objects are on each (default: %(default)s)")
    kind.add_argument("--frames", type=int, default=12, help="measured, after the warm-up (default: %(default)s)")
    kind.add_argument("--profile", type=Path, metavar="TRACE.json", help="a torch profiler trace of the engine")

    kind = _counted(kinds, "roofline", roofline, "1,16")
    _of_the_model(kind)
    kind.add_argument("--frames", type=int, default=0, help="of the engine, timed (default: none)")

    kind = _counted(kinds, "soak", soak, "4")
    _of_the_model(kind)
    kind.add_argument("--frames", type=int, default=100_000, help="(default: %(default)s)")

    kind = _counted(kinds, "daemon", daemon, "8")
    _of_the_model(kind)
    kind.add_argument("--streams", type=int, default=1, help="the objects are on each (default: %(default)s)")
    kind.add_argument("--fps", type=int, default=30, help="of each stream (default: %(default)s)")
    kind.add_argument("--seconds", type=float, default=20.0, help="measured (default: %(default)s)")

    kind = _counted(kinds, "geometry", geometry, "8")
    kind.add_argument("--rounds", type=int, default=100, help="the median of so many (default: %(default)s)")

    kind = _kind(kinds, "gpu", gpu, gpu.rows)
    kind.add_argument("--seconds", type=float, default=600.0, help="for all parts (default: %(default)s)")
    kind.add_argument("--report", type=Path, default=Path("gpu-report.md"), help="(default: %(default)s)")

    kind = _kind(kinds, "precision", precision, precision.rows)
    _of_the_model(kind)
    kind.add_argument("--folder", type=Path, required=True, help="clips with masks, as of tools/eval")
    kind.add_argument("--box", action="append", default=[], metavar="VIDEO=X0,Y0,X1,Y1", help="and one without")
    kind.add_argument("--frames", type=int, default=40, help="of each clip (default: %(default)s)")

    kind = _kind(kinds, "kill", kill, kill.rows)
    kind.add_argument("--runs", type=int, default=50, help="how often (default: %(default)s)")

    kind = _kind(kinds, "zones", zones, zones.rows)
    kind.add_argument("--model", default="nano", help="(default: %(default)s)")
    kind.add_argument("--scenes", type=int, default=20, help="of three objects each (default: %(default)s)")
    return top


def _kind(
    kinds: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, module: object, rows: Rows
) -> argparse.ArgumentParser:
    kind = kinds.add_parser(name, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind.set_defaults(rows=rows)
    kind.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    kind.add_argument("--json", type=Path, help="also write the figures here")
    return kind


def _counted(
    kinds: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, module: Any, objects: str
) -> argparse.ArgumentParser:
    """A kind with a row for each model and number of objects."""
    kind = _kind(kinds, name, module, partial(_each, module.run))
    kind.add_argument("--objects", default=objects, help="how many, a list (default: %(default)s)")
    return kind


def _each(run: Run, args: argparse.Namespace) -> Iterable[report.Row]:
    return [run(one, int(n)) for one in _each_model(args) for n in args.objects.split(",")]


def _each_model(args: argparse.Namespace) -> list[argparse.Namespace]:
    names = getattr(args, "model", "").split(",")
    return [argparse.Namespace(**vars(args) | {"model": name}) for name in names]


def _of_the_model(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--model", default="nano", help=f"a list of {', '.join(zoo.names())} (default: %(default)s)")
    kind.add_argument("--image-size", type=int)
    kind.add_argument("--mode", default="exact", choices=["exact", "fast"])
    kind.add_argument("--device", default="auto")


if __name__ == "__main__":
    main()
