"""`trackerd frame`: one frame of a file as a picture, to see where prompts go."""

from pathlib import Path

import click

from tracker.cli import show
from tracker.cli.options import InPath
from tracker.cli.outputs import OVERWRITE, OutFile, check_paths, write_whole

_SUFFIXES = (".png", ".jpg", ".jpeg")


@click.command()
@click.argument("path", metavar="VIDEO_OR_DIR", type=InPath())
@click.option("--frame", type=click.IntRange(0), default=0, show_default=True, help="Its number, counted from 0.")
@click.option("-o", "--output", type=OutFile(*_SUFFIXES), required=True, help="A .png or .jpg file.")
@click.option("--display", is_flag=True, help="In the shape that a player shows, where pixels are not square.")
@OVERWRITE
def frame(path: Path, frame: int, output: Path, display: bool, overwrite: bool) -> None:
    """Write one frame of a video file or a folder of pictures as a picture.

    Its pixels are those that `trackerd track --point` and `--box` count; with --display, those that they count with
    --display too.
    """
    check_paths([output], inputs=[path], overwrite=overwrite)
    from tracker.images import imaging
    from tracker.offline.frames import as_displayed, read_frame

    rgb_hwc = read_frame(path, frame)
    if display:
        rgb_hwc = as_displayed(path, rgb_hwc)
    encode = imaging.encode_png if output.suffix.lower() == ".png" else imaging.encode_jpeg
    write_whole(output, encode(rgb_hwc))
    h, w = rgb_hwc.shape[:2]
    show.line(f"{output}: frame {frame} of {path}, {w}x{h}")
