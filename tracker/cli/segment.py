"""`trackerd segment`: masks on pictures."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import show
from tracker.cli.options import (
    Group,
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
    OUT_FOLDER,
    OVERWRITE,
    OutFile,
    check_paths,
    closing_named,
    ending_in_order,
    naming,
    say_done,
    saying_what_is_whole,
)
from tracker.config.wording import counted, printable
from tracker.errors import BadPrompt, SourceError
from tracker.images.types import U8
from tracker.protocol.requests import SegmentAll

if TYPE_CHECKING:  # torch takes seconds to import, OpenCV and PIL a tenth of one: only when there is work
    from rich.progress import Progress

    from tracker.engine.engine import Engine
    from tracker.exports import FrameResult
    from tracker.offline.images import Scored

Find = Callable[[U8], "Iterable[Scored]"]
Sink = Callable[[U8, "FrameResult"], None]


@dataclass(frozen=True, slots=True)
class Outputs(Group):
    """What is wanted of the result."""

    masks: Path | None
    coco: Path | None
    overlays: Path | None
    overwrite: bool

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.masks, self.coco, self.overlays) if path is not None]

    def check(self, inputs: Sequence[Path], everything: bool, max_masks: int) -> None:
        """Refuse what cannot be written."""
        from tracker.exports import MAX_PNG_OBJECT

        if not self.paths:
            raise click.UsageError("nothing to write: give --masks, --coco or --overlays")
        if everything and self.masks and max_masks > MAX_PNG_OBJECT:
            limit = f"--max-masks is at most {MAX_PNG_OBJECT}"
            raise click.UsageError(f"with --masks, {limit}: a PNG's pixel is one byte")
        check_paths(self.paths, inputs=inputs, overwrite=self.overwrite)

    @contextmanager
    def sinks(self) -> Iterator[list[Sink]]:
        """What takes pictures and their results, one for each file or folder."""
        from tracker.exports import CocoJson, DavisPng

        sinks: list[Sink] = []
        with ExitStack() as stack:
            if self.masks:
                png = DavisPng(self.masks)
                sinks.append(naming(self.masks, lambda _, result: png.write(result)))
            if self.coco:
                coco = CocoJson(self.coco)
                stack.enter_context(closing_named(self.coco, coco.close))
                sinks.append(naming(self.coco, lambda _, result: coco.write(result)))
            if self.overlays:
                self.overlays.mkdir(parents=True, exist_ok=True)
                sinks.append(naming(self.overlays, partial(_draw, self.overlays)))
            yield sinks


@dataclass(slots=True)
class Report:
    """What became of the pictures."""

    begun_s: float = field(default_factory=time.monotonic)
    pictures: int = 0
    masks: int = 0
    failed: int = 0

    def say(self, paths: Sequence[Path]) -> None:
        """The last line. Raises SourceError where pictures were passed over."""
        seconds = time.monotonic() - self.begun_s
        pictures, masks = counted(self.pictures, "picture"), counted(self.masks, "mask")
        say_done(pictures, seconds, self.pictures / seconds, paths, masks)
        if self.failed:
            count = self.pictures + self.failed
            raise SourceError(f"{self.failed} of {count} pictures were passed over")


@click.command()
@click.argument("paths", metavar="IMAGE_OR_DIR...", nargs=-1, required=True, type=InPath())
@mark_options
@click.option("--candidates", is_flag=True, help="Three masks for a prompt that is ambiguous, best first.")
@click.option("--everything", is_flag=True, help="Everything that is on the pictures.")
@click.option("--masks", type=OUT_FOLDER, help="A folder for indexed PNGs, pixel = number of the mask.")
@click.option("--coco", type=OutFile(".json"), help="A COCO JSON file with run-length encoded masks.")
@click.option("--overlays", type=OUT_FOLDER, help="A folder for JPEGs with the masks drawn on the pictures.")
@OVERWRITE
@knob_options
@model_options
def segment(paths: Sequence[Path], candidates: bool, everything: bool, **options: Any) -> None:
    """Find masks on pictures: what --point or --box marks on each of them, or --everything."""
    marks, outputs, knobs = Marks.take(options), Outputs.take(options), knobs_of(options)
    if bool(marks) == everything:
        raise click.UsageError("give --point or --box, or both, or --everything")
    outputs.check(paths, everything, knobs.max_masks)
    from tracker.offline import images

    pictures = images.find_pictures(paths, written_by_name=bool(outputs.masks or outputs.overlays))
    report = Report()
    engine = ModelOptions.take(options).load()
    find: Find = partial(_marked, engine, marks, candidates)
    if everything:
        find = partial(_everything, engine, knobs)
    try:
        with (
            ending_in_order(),
            saying_what_is_whole(outputs.paths),
            outputs.sinks() as sinks,
            progress_bar() as bar,
        ):
            _segment(pictures, find, sinks, report, bar)
    except (BadPrompt, SourceError):  # of the only picture
        if outputs.coco is not None:
            outputs.coco.unlink(missing_ok=True)  # it tells of nothing, and is in the way of the next try
        raise
    if everything and not report.masks:
        show.say(images.NOTHING_FOUND)
    report.say(outputs.paths)


def _segment(pictures: Sequence[Path], find: Find, sinks: Sequence[Sink], report: Report, bar: "Progress") -> None:
    """A picture that cannot be read, or that the marks miss, is told and passed over."""
    from tracker.images.stills import read_still
    from tracker.offline.images import result_of

    for number, path in enumerate(bar.track(pictures, description="pictures")):
        try:
            rgb_hwc = read_still(path)
            found = find(rgb_hwc)
        except (SourceError, BadPrompt) as error:
            if len(pictures) == 1:
                raise
            report.failed += 1
            what = error.message if isinstance(error, SourceError) else f"{path}: {error.message}"
            bar.console.print(printable(what), markup=False, highlight=False, soft_wrap=True)
            continue
        h, w = rgb_hwc.shape[:2]
        result = result_of(number, path.name, (w, h), found)
        for sink in sinks:
            sink(rgb_hwc, result)
        report.pictures += 1
        report.masks += len(result.objects)


def _everything(engine: "Engine", knobs: SegmentAll, rgb_hwc: U8) -> "Iterable[Scored]":
    """One by one: whole masks take megabytes."""
    from tracker.offline import images

    return ((found.mask_hw, found.score) for found in images.segment_everything(engine, rgb_hwc, knobs))


def _marked(engine: "Engine", marks: Marks, candidates: bool, rgb_hwc: U8) -> list["Scored"]:
    from tracker.offline import images

    return images.segment_prompted(engine, rgb_hwc, marks.as_prompted(), multimask=candidates)


def _draw(folder: Path, rgb_hwc: U8, result: "FrameResult") -> None:
    from tracker.exports import drawing_of
    from tracker.images import imaging
    from tracker.images.overlay import draw

    drawings = [drawing_of(record) for record in result.objects]
    jpeg = imaging.encode_jpeg(draw(rgb_hwc, drawings), 90)
    (folder / f"{result.stem}.jpg").write_bytes(jpeg)
