"""Measure: the engine beside the official predictor and beside what the device could do, memory over many frames,
the daemon end to end, geometry, bfloat16, what kill -9 loses, fleets.

    tools/bench engine   [--model nano] [--objects 1,8] [--streams 1] [--mode exact] [--threads 2]
    tools/bench roofline [--model nano,sam2.1_hiera_tiny] [--objects 1,16] [--frames 3]
    tools/bench soak     [--frames 100000] [--objects 4]
    tools/bench daemon   [--objects 8] [--streams 1] [--fps 30] [--seconds 20]
    tools/bench geometry
    tools/bench gpu      [--seconds 600] [--report gpu-report.md]
    tools/bench precision --folder CLIPS [--box VIDEO=x0,y0,x1,y1]
    tools/bench kill     [--runs 50]
    tools/bench looks    [--sets FOLDER] [--looks 10000,100000]
    tools/bench fleet    [--boxes 200] [--streams 2000] [--processes 4]
    tools/bench fleet_place [--runs 3]
    tools/bench fleet_kill [--runs 20]
    tools/bench disk     [--minutes 5]
    tools/bench fleet_stop [--runs 3] [--seconds 30]
    tools/bench fleet_nats [--seconds 60]
    tools/bench fleet_drain [--runs 6]
    tools/bench fleet_files [--pictures 300]
    tools/bench beside   [--runs 6] [--seconds 20]
    tools/bench zones    [--model nano] [--scenes 20]

Prints a Markdown table, and JSON with --json FILE. `wall` and every latency is what a clock says, and means nothing
where the machine has other work; `cpu` is processor time. What the columns mean, each kind's own --help says.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benches import report
from tracker.engine.models import zoo

Run = Callable[[argparse.Namespace, int], report.Row]
Rows = Callable[[argparse.Namespace], Iterable[report.Row]]


def main() -> None:
    args = parser(sys.argv[1:2]).parse_args()
    torch.set_num_threads(args.threads)
    rows = list(args.rows(args))
    report.print_table(rows)
    if args.json:
        report.write_json(args.json, rows)


def parser(asked: list[str]) -> argparse.ArgumentParser:
    """The command line. Of the kinds only the one that is asked for is imported: the engine's run where neither
    ZeroMQ nor PyAV is."""
    top = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = top.add_subparsers(required=True)
    for name in [name for name in KINDS if name in asked] or KINDS:
        KINDS[name](kinds, importlib.import_module(f"benches.{name}"))
    return top


def _engine(kinds: Any, module: Any) -> None:
    kind = _counted(kinds, "engine", module, "1,8")
    _of_the_model(kind)
    kind.add_argument("--streams", type=int, default=1, help="the objects are on each (default: %(default)s)")
    kind.add_argument("--frames", type=int, default=12, help="measured, after the warm-up (default: %(default)s)")
    kind.add_argument("--compiled", action="store_true", help="the official predictor with vos_optimized, on a GPU")
    kind.add_argument("--profile", type=Path, metavar="TRACE.json", help="a torch profiler trace of the engine")


def _roofline(kinds: Any, module: Any) -> None:
    kind = _counted(kinds, "roofline", module, "1,16")
    _of_the_model(kind)
    kind.add_argument("--frames", type=int, default=0, help="of the engine, timed (default: none)")


def _soak(kinds: Any, module: Any) -> None:
    kind = _counted(kinds, "soak", module, "4")
    _of_the_model(kind)
    kind.add_argument("--frames", type=int, default=100_000, help="(default: %(default)s)")


def _daemon(kinds: Any, module: Any) -> None:
    kind = _counted(kinds, "daemon", module, "8")
    _of_the_model(kind)
    kind.add_argument("--streams", type=int, default=1, help="the objects are on each (default: %(default)s)")
    kind.add_argument("--fps", type=int, default=30, help="of each stream (default: %(default)s)")
    kind.add_argument("--seconds", type=float, default=20.0, help="measured (default: %(default)s)")


def _geometry(kinds: Any, module: Any) -> None:
    kind = _counted(kinds, "geometry", module, "8")
    kind.add_argument("--rounds", type=int, default=100, help="the median of so many (default: %(default)s)")


def _gpu(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "gpu", module, module.rows)
    kind.add_argument("--seconds", type=float, default=600.0, help="for all parts (default: %(default)s)")
    kind.add_argument("--report", type=Path, default=Path("gpu-report.md"), help="(default: %(default)s)")


def _precision(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "precision", module, module.rows)
    _of_the_model(kind)
    kind.add_argument("--folder", type=Path, required=True, help="clips with masks, as of tools/eval")
    kind.add_argument("--box", action="append", default=[], metavar="VIDEO=X0,Y0,X1,Y1", help="and one without")
    kind.add_argument("--frames", type=int, default=40, help="of each clip (default: %(default)s)")
    kind.add_argument("--only", action="append", choices=module.KINDS, help="beside float32; all without it")


def _kill(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "kill", module, module.rows)
    kind.add_argument("--runs", type=int, default=50, help="how often (default: %(default)s)")


def _fleet(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet", module, module.rows)
    kind.add_argument("--boxes", type=int, default=200, help="(default: %(default)s)")
    kind.add_argument("--streams", type=int, default=2000, help="(default: %(default)s)")
    kind.add_argument("--processes", type=int, default=4, help="that the boxes are in (default: %(default)s)")


def _fleet_place(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_place", module, module.rows)
    kind.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")


def _fleet_kill(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_kill", module, module.rows)
    kind.add_argument("--runs", type=int, default=20, help="how often (default: %(default)s)")


def _fleet_stop(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_stop", module, module.rows)
    kind.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    kind.add_argument(
        "--seconds", type=float, default=30.0, help="that the box stands still (default: %(default)s)"
    )


def _fleet_nats(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_nats", module, module.rows)
    kind.add_argument("--seconds", type=float, default=60.0, help="of each outage (default: %(default)s)")


def _fleet_drain(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_drain", module, module.rows)
    kind.add_argument("--runs", type=int, default=6, help="how often (default: %(default)s)")


def _fleet_files(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "fleet_files", module, module.rows)
    kind.add_argument("--pictures", type=int, default=300, help="(default: %(default)s)")


def _zones(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "zones", module, module.rows)
    kind.add_argument("--model", default="nano", help="(default: %(default)s)")
    kind.add_argument("--scenes", type=int, default=20, help="of three objects each (default: %(default)s)")


def _looks(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "looks", module, module.rows)
    kind.add_argument("--model", default="nano", help="(default: %(default)s)")
    kind.add_argument(
        "--sets", type=Path, help="a folder of clips with masks, as of tools/eval: found again on them"
    )
    kind.add_argument("--every", type=int, default=2, help="frame of a clip (default: %(default)s)")
    kind.add_argument("--looks", default="10000,100000", help="without --sets: a search (default: %(default)s)")


def _beside(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "beside", module, module.rows)
    kind.add_argument("--runs", type=int, default=6, help="pairs of measurements (default: %(default)s)")
    kind.add_argument("--seconds", type=float, default=20.0, help="of each (default: %(default)s)")


def _disk(kinds: Any, module: Any) -> None:
    kind = _kind(kinds, "disk", module, module.rows)
    kind.add_argument("--minutes", type=float, default=5, help="it is followed (default: %(default)s)")


KINDS: dict[str, Callable[[Any, Any], None]] = {
    "engine": _engine,
    "roofline": _roofline,
    "soak": _soak,
    "daemon": _daemon,
    "geometry": _geometry,
    "gpu": _gpu,
    "precision": _precision,
    "kill": _kill,
    "fleet": _fleet,
    "fleet_place": _fleet_place,
    "fleet_kill": _fleet_kill,
    "fleet_stop": _fleet_stop,
    "fleet_nats": _fleet_nats,
    "fleet_drain": _fleet_drain,
    "fleet_files": _fleet_files,
    "zones": _zones,
    "looks": _looks,
    "disk": _disk,
    "beside": _beside,
}


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
