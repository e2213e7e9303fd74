"""`trackerd track`: follow objects through a file."""

from collections.abc import Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import show
from tracker.cli.options import (
    InPath,
    Marks,
    ModelOptions,
    knob_options,
    knobs_of,
    mark_options,
    model_options,
    progress_bar,
)
from tracker.cli.outputs import (
    EXPORT_HELP,
    OUT_FOLDER,
    OVERWRITE,
    Export,
    OutFile,
    ending_in_order,
    saying_what_is_whole,
)
from tracker.cli.track_outputs import Outputs, Report
from tracker.errors import BadPrompt
from tracker.protocol.requests import SegmentAll

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from rich.progress import Progress

    from tracker.engine.engine import Engine
    from tracker.offline.entries import PromptEntry


@click.command()
@click.argument("path", metavar="VIDEO_OR_DIR", type=InPath())
@click.option("--prompts", type=InPath(dir_okay=False), help="YAML list of prompts.")
@mark_options
@click.option("--everything", is_flag=True, help="Follow everything that is found on --frame.")
@click.option(
    "--frame", type=click.IntRange(0), default=0, show_default=True, help="Of --point, --box, --everything."
)
@click.option("--object", "object_id", type=click.IntRange(1), default=1, show_default=True, help="Its (first) id.")
@click.option("--display", is_flag=True, help="Marks are where a player shows them, if pixels are not square.")
@click.option(
    "--reverse",
    is_flag=True,
    help="Also track back from the first prompt to the start, each direction with a memory of its own.",
)
@click.option("--masks", type=OUT_FOLDER, help="A folder for indexed PNGs, pixel = object id.")
@click.option("--jsonl", type=OutFile(".jsonl"), help="A file for one line of JSON a frame.")
@click.option("--overlay", type=OutFile(".mp4"), help="An MP4 with the objects drawn on the frames.")
@click.option("--export", "exports", type=Export(), multiple=True, help=EXPORT_HELP)
@OVERWRITE
@knob_options
@model_options
def track(
    path: Path,
    prompts: Path | None,
    everything: bool,
    frame: int,
    object_id: int,
    display: bool,
    reverse: bool,
    **options: Any,
) -> None:
    """Follow objects through a video file or a folder of pictures, every frame.

    Prompts come from a file, a list of {object, frame, points?, labels?, box?} in which later entries of an object
    are corrections; or from --point and --box for one object; or are what --everything finds.
    """
    from tracker.offline.entries import in_decoded_pixels

    marks, outputs, knobs = Marks.take(options), Outputs.take(options), knobs_of(options)
    if bool(prompts) + bool(marks) + everything != 1:
        raise click.UsageError("give --prompts FILE, or --point and --box for one object, or --everything")
    outputs.check([path, *([prompts] if prompts else [])])
    entries = _entries(prompts, marks, object_id, frame)
    _check_ids(entries, outputs)
    pixel_aspect = _look_at(path)
    if display:
        entries = [in_decoded_pixels(entry, pixel_aspect) for entry in entries]
    engine = ModelOptions.take(options).load()
    report = Report()
    with progress_bar() as bar:
        if everything:
            entries = _found(engine, path, frame, object_id, knobs, bar)
            _check_ids(entries, outputs)
        with ending_in_order(), saying_what_is_whole(outputs.paths):
            _run(engine, path, entries, reverse, outputs, report, bar)
    report.say(outputs.paths)


def _entries(prompts: Path | None, marks: Marks, object_id: int, frame: int) -> list["PromptEntry"]:
    """Those of the file, or the one of the command line; none for --everything."""
    from tracker.offline.entries import entry_of, read_entries

    if prompts:
        return read_entries(prompts)
    if marks:
        return [entry_of({"object": object_id, "frame": frame, **marks.as_args()}, "--point, --box")]
    return []


def _look_at(path: Path) -> Fraction:
    """The shape of the input's pixels. It is opened before seconds go into loading the model.

    Raises SourceError.
    """
    from tracker.offline.frames import facts_of

    facts = facts_of(path)
    if facts.notice:
        show.say(facts.notice)
    return facts.pixel_aspect


def _run(
    engine: "Engine",
    path: Path,
    entries: list["PromptEntry"],
    reverse: bool,
    outputs: Outputs,
    report: Report,
    bar: "Progress",
) -> None:
    from tracker.offline import video

    task = bar.add_task(path.name, total=None)

    def on_step(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)

    tracked = video.track(engine, path, entries, reverse=reverse, on_step=on_step)
    with closing(tracked) as outcomes, outputs.sinks(path) as sinks:
        for outcome in outcomes:
            for sink in sinks:
                sink(outcome)
            report.take(outcome)


def _found(
    engine: "Engine", path: Path, frame: int, first_id: int, knobs: SegmentAll, bar: "Progress"
) -> list["PromptEntry"]:
    """What is found on one frame, each a prompt."""
    from tracker.offline import video

    task = bar.add_task("everything", total=None)

    def on_step(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return video.everything_on(engine, path, frame, knobs, first_id=first_id, on_step=on_step)


def _check_ids(entries: Sequence["PromptEntry"], outputs: Outputs) -> None:
    if not outputs.indexed:
        return
    from tracker.exports import MAX_PNG_OBJECT

    if large := [entry.object for entry in entries if entry.object > MAX_PNG_OBJECT]:
        raise BadPrompt(f"object {large[0]}: in indexed PNGs ids go up to {MAX_PNG_OBJECT}: a pixel is one byte")
