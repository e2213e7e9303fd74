"""`trackerd track`: follow objects through a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.progress import Progress

from tracker.cli.options import (
    OUT_FILE,
    OUT_FOLDER,
    Group,
    Marks,
    ModelOptions,
    knob_options,
    knobs_of,
    mark_options,
    model_options,
    progress_bar,
)
from tracker.errors import BadPrompt
from tracker.exports import MAX_PNG_OBJECT, WRITERS, DavisPng, OverlayVideo
from tracker.images.imaging import to_rgb
from tracker.protocol.requests import SegmentAll
from tracker.streams import sources

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from tracker.engine.engine import Engine
    from tracker.offline.video import Outcome, PromptEntry

DEFAULT_FPS = 25.0


class Export(click.ParamType[tuple[str, Path]]):
    """`FORMAT=PATH`."""

    name = "FORMAT=PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        name, _, path = str(value).partition("=")
        if name not in WRITERS or not path:
            self.fail(f"{value!r} is not FORMAT=PATH with FORMAT one of {', '.join(WRITERS)}", param, ctx)
        return name, Path(path)


@dataclass(frozen=True, slots=True)
class Outputs(Group):
    """What is wanted of the result."""

    masks: Path | None
    jsonl: Path | None
    overlay: Path | None
    exports: Sequence[tuple[str, Path]]

    def __bool__(self) -> bool:
        return bool(self.masks or self.jsonl or self.overlay or self.exports)

    @contextmanager
    def sinks(self, path: Path) -> Iterator[list[Callable[["Outcome"], None]]]:
        """What takes the outcomes, one for each file or folder."""
        sinks: list[Callable[[Outcome], None]] = []
        with ExitStack() as stack:
            if self.masks:
                png = DavisPng(self.masks)
                sinks.append(lambda outcome: png.write_ids(outcome.stem, outcome.ids_hw))
            jsonl = [("jsonl", self.jsonl)] if self.jsonl else []
            for name, target in (*jsonl, *self.exports):
                writer = stack.enter_context(closing(WRITERS[name](target)))
                sinks.append(lambda outcome, write=writer.write: write(outcome.result))  # type: ignore[misc]
            if self.overlay:
                with sources.open_path(path) as opened:
                    fps = opened.fps
                video = stack.enter_context(closing(OverlayVideo(self.overlay, fps or DEFAULT_FPS)))
                sinks.append(lambda outcome: video.write(to_rgb(outcome.frame.image), outcome.result))
            yield sinks


@click.command()
@click.argument("path", metavar="VIDEO_OR_DIR", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--prompts", type=click.Path(dir_okay=False, exists=True, path_type=Path), help="YAML list of prompts."
)
@mark_options
@click.option("--everything", is_flag=True, help="Follow everything that is found on --frame.")
@click.option(
    "--frame", type=click.IntRange(0), default=0, show_default=True, help="Of --point, --box, --everything."
)
@click.option("--object", "object_id", type=click.IntRange(1), default=1, show_default=True, help="Its (first) id.")
@click.option(
    "--reverse",
    is_flag=True,
    help="Also track back from the first prompt to the start, each direction with a memory of its own.",
)
@click.option("--masks", type=OUT_FOLDER, help="A folder for indexed PNGs, pixel = object id.")
@click.option("--jsonl", type=OUT_FILE, help="A file for one line of JSON a frame.")
@click.option("--overlay", type=OUT_FILE, help="An MP4 with the objects drawn on the frames.")
@click.option("--export", "exports", type=Export(), multiple=True, help=f"FORMAT is one of {', '.join(WRITERS)}.")
@knob_options
@model_options
def track(
    path: Path, prompts: Path | None, everything: bool, frame: int, object_id: int, reverse: bool, **options: Any
) -> None:
    """Follow objects through a video file or a folder of pictures, every frame.

    Prompts come from a file, a list of {object, frame, points?, labels?, box?} in which later entries of an object
    are corrections; or from --point and --box for one object; or are what --everything finds.
    """
    from tracker.offline import video

    marks, outputs, knobs = Marks.take(options), Outputs.take(options), knobs_of(options)
    if bool(prompts) + bool(marks) + everything != 1:
        raise click.UsageError("give --prompts FILE, or --point and --box for one object, or --everything")
    if not outputs:
        raise click.UsageError("nothing to write: give --masks, --jsonl, --overlay or --export")
    entries: list[PromptEntry] = []
    if prompts:
        entries = video.read_entries(prompts)
    elif marks:
        entries = [video.entry_of({"object": object_id, "frame": frame, **marks.as_args()}, "--point, --box")]
    _check_ids(entries, outputs)
    engine = ModelOptions.take(options).load()
    with ExitStack() as stack:
        bar = stack.enter_context(progress_bar())
        if everything:
            entries = _found(engine, path, frame, object_id, knobs, bar)
            _check_ids(entries, outputs)
        task = bar.add_task(path.name, total=None)
        outcomes = video.track(
            engine,
            path,
            entries,
            reverse=reverse,
            on_step=lambda done, total: bar.update(task, completed=done, total=total),
        )
        stack.enter_context(closing(outcomes))
        sinks = stack.enter_context(outputs.sinks(path))
        for outcome in outcomes:
            for sink in sinks:
                sink(outcome)


def _found(
    engine: "Engine", path: Path, frame: int, first_id: int, knobs: SegmentAll, bar: Progress
) -> list["PromptEntry"]:
    """What is found on one frame, each a prompt."""
    from tracker.offline import video

    task = bar.add_task("everything", total=None)
    return video.everything_on(
        engine,
        path,
        frame,
        knobs,
        first_id=first_id,
        on_step=lambda done, total: bar.update(task, completed=done, total=total),
    )


def _check_ids(entries: Sequence["PromptEntry"], outputs: Outputs) -> None:
    as_png = outputs.masks or any(name == "davis" for name, _ in outputs.exports)
    if as_png and (large := [entry.object for entry in entries if entry.object > MAX_PNG_OBJECT]):
        raise BadPrompt(f"object {large[0]}: in indexed PNGs ids go up to {MAX_PNG_OBJECT}: a pixel is one byte")
