"""`trackerd track`: follow objects through a file."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import show
from tracker.cli.options import (
    Group,
    Marks,
    ModelOptions,
    knob_options,
    knobs_of,
    mark_options,
    model_options,
    progress_bar,
)
from tracker.cli.outputs import (
    DEFAULT_FPS,
    EXPORT_HELP,
    OUT_FOLDER,
    OVERWRITE,
    Export,
    OutFile,
    check_paths,
    naming,
    objects_text,
    say_done,
    saying_what_is_whole,
)
from tracker.errors import BadPrompt
from tracker.protocol.requests import SegmentAll

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from rich.progress import Progress

    from tracker.engine.engine import Engine
    from tracker.offline.entries import PromptEntry
    from tracker.offline.video import Outcome

Sink = Callable[["Outcome"], None]


@dataclass(frozen=True, slots=True)
class Outputs(Group):
    """What is wanted of the result."""

    masks: Path | None
    jsonl: Path | None
    overlay: Path | None
    exports: Sequence[tuple[str, Path]]
    overwrite: bool

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Every export's format and path."""
        return [*([("jsonl", self.jsonl)] if self.jsonl else []), *self.exports]

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.masks, self.overlay) if path] + [path for _, path in self.files]

    @property
    def indexed(self) -> bool:
        """Whether objects become pixels of indexed PNGs."""
        return self.masks is not None or any(name == "davis" for name, _ in self.exports)

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse what cannot be written."""
        if not self.paths:
            raise click.UsageError("nothing to write: give --masks, --jsonl, --overlay or --export")
        check_paths(self.paths, inputs=inputs, overwrite=self.overwrite)

    @contextmanager
    def sinks(self, path: Path) -> Iterator[list[Sink]]:
        """What takes the outcomes, one for each file or folder."""
        from tracker.exports import WRITERS, DavisPng

        sinks: list[Sink] = []
        with ExitStack() as stack:
            if self.masks:
                png = DavisPng(self.masks)
                sinks.append(naming(self.masks, lambda outcome: png.write_ids(outcome.stem, outcome.ids_hw)))
            for name, target in self.files:
                writer = WRITERS[name](target)
                stack.callback(naming(target, writer.close))
                sinks.append(naming(target, partial(_write, writer.write)))
            if self.overlay:
                sinks.append(stack.enter_context(_overlaid(self.overlay, path)))
            yield sinks


@dataclass(slots=True)
class Report:
    """What a finished run says of itself."""

    begun_s: float = field(default_factory=time.monotonic)
    frames: int = 0
    seen: set[int] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)  # on the last frame

    def take(self, outcome: "Outcome") -> None:
        self.frames += 1
        self.seen.update(outcome.masks)
        self.lost = [number for number, mask in outcome.masks.items() if not (mask.logits_hw > 0).any()]

    def say(self, paths: Sequence[Path]) -> None:
        seconds = time.monotonic() - self.begun_s
        objects = objects_text(sorted(self.seen), self.lost)
        say_done(f"{self.frames} frames", seconds, self.frames / seconds, paths, objects)


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
        with saying_what_is_whole(outputs.paths):
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


def _write(write: Callable[[Any], None], outcome: "Outcome") -> None:
    write(outcome.result)


@contextmanager
def _overlaid(overlay: Path, path: Path) -> Iterator[Sink]:
    from tracker.exports import OverlayVideo
    from tracker.images.imaging import to_rgb
    from tracker.offline.frames import facts_of

    facts = facts_of(path)
    video = OverlayVideo(overlay, facts.fps or DEFAULT_FPS, facts.pixel_aspect)
    try:
        yield naming(overlay, lambda outcome: video.write(to_rgb(outcome.frame.image), outcome.result))
    finally:
        naming(overlay, video.close)()


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
