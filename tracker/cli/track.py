"""`trackerd track`: follow objects through a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker import source
from tracker.cli.options import BOX, OUT_FILE, POINT, load_engine, model_options, progress_bar
from tracker.errors import BadPrompt
from tracker.exports import MAX_PNG_OBJECT, DavisPng, JsonLines, OverlayVideo
from tracker.imaging import to_rgb

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from tracker.offline import Entry, Outcome

DEFAULT_FPS = 25.0


@click.command()
@click.argument("path", metavar="VIDEO_OR_DIR", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--prompts", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="YAML list of prompts."
)
@click.option("--point", "points", type=POINT, multiple=True, help="A click; LABEL 0 is what the object is not.")
@click.option("--box", type=BOX, help="A box around the object.")
@click.option("--frame", type=click.IntRange(0), default=0, show_default=True, help="Of --point and --box.")
@click.option("--object", "object_id", type=click.IntRange(1), default=1, show_default=True, help="Its id.")
@click.option("--reverse", is_flag=True, help="Also track back from the first prompt to the start.")
@click.option("--masks", type=click.Path(file_okay=False, path_type=Path), help="A folder for indexed PNGs.")
@click.option("--jsonl", type=OUT_FILE, help="A file for one line of JSON a frame.")
@click.option("--overlay", type=OUT_FILE, help="An MP4 with the objects drawn on the frames.")
@model_options
def track(
    path: Path,
    prompts: Path | None,
    points: Sequence[tuple[float, ...]],
    box: tuple[float, ...] | None,
    frame: int,
    object_id: int,
    reverse: bool,
    masks: Path | None,
    jsonl: Path | None,
    overlay: Path | None,
    **model: Any,
) -> None:
    """Follow objects through a video file or a folder of pictures, every frame.

    Prompts come from a file, a list of {object, frame, points?, labels?, box?} in which later entries of an object
    are corrections; or from --point and --box for one object.
    """
    if bool(prompts) == bool(points or box):
        raise click.UsageError("give --prompts FILE, or --point and --box for one object")
    if not (masks or jsonl or overlay):
        raise click.UsageError("nothing to write: give --masks, --jsonl or --overlay")
    from tracker import offline

    entries = offline.read_entries(prompts) if prompts else [_entry(object_id, frame, points, box)]
    if masks and (large := [entry.object for entry in entries if entry.object > MAX_PNG_OBJECT]):
        raise BadPrompt(
            f"object {large[0]}: with --masks, ids go up to {MAX_PNG_OBJECT}: a PNG's pixel is one byte"
        )
    engine = load_engine(**model)
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar())
        task = bar.add_task(path.name, total=None)
        outcomes = offline.track(
            engine,
            path,
            entries,
            reverse=reverse,
            on_step=lambda done, total: bar.update(task, completed=done, total=total),
        )
        outcomes = stack.enter_context(closing(outcomes))
        sinks = stack.enter_context(_sinks(path, masks, jsonl, overlay))
        for outcome in outcomes:
            for sink in sinks:
                sink(outcome)


def _entry(
    object_id: int, frame: int, points: Sequence[tuple[float, ...]], box: tuple[float, ...] | None
) -> "Entry":
    from tracker.offline import Entry

    return Entry(
        object=object_id,
        frame=frame,
        points=[(point[0], point[1]) for point in points],
        labels=[int(point[2]) if len(point) == 3 else 1 for point in points],
        box=(box[0], box[1], box[2], box[3]) if box else None,
    )


@contextmanager
def _sinks(
    path: Path, masks: Path | None, jsonl: Path | None, overlay: Path | None
) -> Iterator[list[Callable[["Outcome"], None]]]:
    """What takes the outcomes, one for each file or folder that is wanted."""
    sinks: list[Callable[[Outcome], None]] = []
    with ExitStack() as stack:
        if masks:
            png = DavisPng(masks)
            sinks.append(lambda outcome: png.write_ids(outcome.stem, outcome.ids_hw))
        if jsonl:
            lines = stack.enter_context(closing(JsonLines(jsonl)))
            sinks.append(lambda outcome: lines.write(outcome.result))
        if overlay:
            with source.open_path(path) as opened:
                fps = opened.fps
            video = stack.enter_context(closing(OverlayVideo(overlay, fps or DEFAULT_FPS)))
            sinks.append(lambda outcome: video.write(to_rgb(outcome.frame.image), outcome.result))
        yield sinks
