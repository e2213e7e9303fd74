"""`trackerd segment`: masks on pictures."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

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
from tracker.cli.outputs import OUT_FOLDER, OVERWRITE, OutFile, check_paths, say_done
from tracker.errors import SourceError
from tracker.exports import MAX_PNG_OBJECT, CocoJson, DavisPng, FrameResult, drawing_of
from tracker.images import imaging
from tracker.images.overlay import draw
from tracker.images.stills import read_still
from tracker.protocol.requests import SegmentAll
from tracker.types import U8

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from tracker.engine.engine import Engine
    from tracker.offline.images import Scored


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

    @contextmanager
    def sinks(self) -> Iterator[list[Callable[[U8, FrameResult], None]]]:
        """What takes pictures and their results, one for each file or folder."""
        sinks: list[Callable[[U8, FrameResult], None]] = []
        with ExitStack() as stack:
            if self.masks:
                png = DavisPng(self.masks)
                sinks.append(lambda _, result: png.write(result))
            if self.coco:
                coco = stack.enter_context(closing(CocoJson(self.coco)))
                sinks.append(lambda _, result: coco.write(result))
            if self.overlays:
                self.overlays.mkdir(parents=True, exist_ok=True)
                sinks.append(partial(_draw, self.overlays))
            yield sinks


@click.command()
@click.argument(
    "paths", metavar="IMAGE_OR_DIR...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path)
)
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
    """Find masks on pictures: what --point and --box mark on each of them, or --everything."""
    marks, outputs, knobs = Marks.take(options), Outputs.take(options), knobs_of(options)
    if bool(marks) == everything:
        raise click.UsageError("give --point and --box, or --everything")
    if not outputs.paths:
        raise click.UsageError("nothing to write: give --masks, --coco or --overlays")
    if everything and outputs.masks and knobs.max_masks > MAX_PNG_OBJECT:
        raise click.UsageError(f"with --masks, --max-masks is at most {MAX_PNG_OBJECT}: a PNG's pixel is one byte")
    check_paths(outputs.paths, overwrite=outputs.overwrite)
    from tracker.offline import images

    pictures = images.find_pictures(paths)
    begun_s, masks = time.monotonic(), 0
    engine = ModelOptions.take(options).load()
    find = partial(_everything, engine, knobs) if everything else partial(_marked, engine, marks, candidates)
    failed = []
    with outputs.sinks() as sinks, progress_bar() as bar:
        for number, path in enumerate(bar.track(pictures, description="pictures")):
            try:
                rgb_hwc = read_still(path)
            except SourceError as error:
                failed.append(error)
                bar.console.print(str(error), highlight=False)
                continue
            size_wh = (rgb_hwc.shape[1], rgb_hwc.shape[0])
            result = images.result_of(number, path.name, size_wh, find(rgb_hwc))
            masks += len(result.objects)
            for sink in sinks:
                sink(rgb_hwc, result)
    done, seconds = len(pictures) - len(failed), time.monotonic() - begun_s
    say_done(f"{done} pictures", seconds, done / seconds, outputs.paths, f"{masks} masks")
    if failed:
        raise SourceError(f"{len(failed)} of {len(pictures)} pictures could not be read")


def _everything(engine: "Engine", knobs: SegmentAll, rgb_hwc: U8) -> list["Scored"]:
    from tracker.offline import images

    return [(mask_hw, found.score) for found, mask_hw in images.segment_everything(engine, rgb_hwc, knobs)]


def _marked(engine: "Engine", marks: Marks, candidates: bool, rgb_hwc: U8) -> list["Scored"]:
    from tracker.offline import images

    return images.segment_prompted(engine, rgb_hwc, marks.as_prompted(), multimask=candidates)


def _draw(folder: Path, rgb_hwc: U8, result: FrameResult) -> None:
    drawings = [drawing_of(record) for record in result.objects]
    (folder / f"{result.stem}.jpg").write_bytes(imaging.encode_jpeg(draw(rgb_hwc, drawings), 90))
