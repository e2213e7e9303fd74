"""`trackerd fleet worker`: a box's child process for files, which takes and answers lines of JSON."""

import contextlib
import functools
import sys
from pathlib import Path

import click
import msgspec

from tracker.cli.index import index
from tracker.cli.options import ModelOptions
from tracker.cli.segment import segment
from tracker.cli.track import track
from tracker.config.wording import printable
from tracker.errors import TrackerError
from tracker.exports import MAX_PNG_OBJECT
from tracker.fleet.child import Answer, Order
from tracker.fleet.work import MAX_ERROR_CHARS, Work


def run() -> None:
    """Until standard input ends."""
    ModelOptions.load = functools.cache(ModelOptions.load)  # type: ignore[method-assign]  # once for all files
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # where the commands say what they did
        for line in sys.stdin:
            answer = _answer(msgspec.json.decode(line, type=Order))
            answers.write(msgspec.json.encode(answer).decode() + "\n")
            answers.flush()


def _answer(order: Order) -> Answer:
    command = {"segment": segment, "track": track, "index": index}[order.task.work.kind]
    try:
        command.main(arguments(order), standalone_mode=False)
    except click.ClickException as error:
        return _failed(error.format_message())
    except (TrackerError, OSError) as error:
        return _failed(str(error))
    except Exception as error:  # noqa: BLE001 - one bad file must not cost the others
        return _failed(f"{type(error).__name__}: {error}")
    return Answer()


def _failed(text: str) -> Answer:
    """As short as a line to the box may be, and without what JSON cannot hold."""
    return Answer(error=printable(text)[:MAX_ERROR_CHARS])


def arguments(order: Order) -> list[str]:
    """As somebody would type it."""
    work, folder = order.task.work, Path(order.folder)
    typed = [order.task.path, "--model", work.model, "--device", order.device]
    if work.image_size is not None:
        typed += ["--image-size", str(work.image_size)]
    for point in work.points:
        typed += ["--point", _numbers(point)]
    if work.box is not None:
        typed += ["--box", _numbers(list(work.box))]
    if work.everything:
        typed.append("--everything")
        if "masks" in work.want:
            typed += ["--max-masks", str(MAX_PNG_OBJECT)]
    return typed + [word for want in work.want for word in _output(work, want, folder)]


def _output(work: Work, want: str, folder: Path) -> list[str]:
    if want == "masks":
        return ["--masks", str(folder / "masks")]
    if want == "looks":
        return ["--db", str(folder / "looks.db")]
    if want == "jsonl":
        return ["--jsonl", str(folder / "tracks.jsonl")]
    if want == "coco":
        option = "--coco" if work.kind == "segment" else "--export"
        return [option, str(folder / "coco.json")]
    if work.kind == "segment":
        return ["--overlays", str(folder / "overlays")]
    return ["--overlay", str(folder / "overlay.mp4")]


def _numbers(values: list[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
