"""`trackctl snapshot`: a frame as a picture."""

import time
from pathlib import Path
from typing import Any

import click
import msgspec

from tracker.cli import show
from tracker.cli.commands import json_option, pass_client
from tracker.cli.outputs import OVERWRITE, OutFile, check_paths, write_whole
from tracker.client import Client
from tracker.errors import NoFrame
from tracker.protocol.fields import ImageFormat
from tracker.protocol.replies import FrameImage

PIN_S = 60  # how long the daemon keeps a frame that somebody looks at
IMAGE_FORMATS: dict[str, ImageFormat] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
ENDINGS = "A file that ends in " + ", ".join(IMAGE_FORMATS)


@click.command()
@click.argument("stream")
@click.option("-o", "--output", type=OutFile(*IMAGE_FORMATS, dash=True), help=f"{ENDINGS}; - is standard output.")
@click.option("--frame", type=int, help="A buffered frame; the newest if absent.")
@click.option("--format", type=click.Choice(["jpeg", "png"]), help="Where no file's name tells.")
@click.option("--max-width", type=int)
@click.option("--overlay", is_flag=True, help="Draw the objects on it.")
@OVERWRITE
@json_option
@pass_client
def snapshot(
    client: Client,
    /,
    stream: str,
    output: Path | None,
    format: ImageFormat | None,
    overwrite: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Save a frame as JPEG or PNG. The daemon keeps it for a minute, for an `add --frame` after a look at it."""
    chosen = _format_of(format, output)
    to_stdout = output == Path("-")
    if output is not None and not to_stdout:
        check_paths([output], overwrite=overwrite)
    image = _taken(client, stream, format=chosen, pin_s=PIN_S, **options)
    if to_stdout:
        show.data(image.data)
        return
    path = output or Path(f"{stream}-{image.frame}.{'jpg' if chosen == 'jpeg' else 'png'}")
    if output is None:
        check_paths([path], overwrite=overwrite)
    _write(path, image.data)
    if as_json:
        record = msgspec.to_builtins(image, builtin_types=(bytes,)) | {"file": str(path)}
        del record["data"]
        show.line(show.as_json(record))
    else:
        kept = f"to mark something on it within {PIN_S} s: trackctl add {stream} --frame {image.frame} --point X,Y"
        show.line(f"{path}: frame {image.frame} of {stream}, {len(image.data)} bytes; {kept}")


def _taken(client: Client, stream: str, **options: Any) -> FrameImage:
    """The frame; the first one of a stream that is just being opened, as after a start, is waited for."""
    deadline_s = time.monotonic() + client.timeout_s
    while True:
        try:
            return client.snapshot(stream, **options)
        except NoFrame:
            opening = any(
                s.stream == stream and s.state == "connecting" and not s.error for s in client.streams().streams
            )
            if not opening or time.monotonic() > deadline_s:
                raise
        time.sleep(0.1)


def _format_of(format: ImageFormat | None, output: Path | None) -> ImageFormat:
    """The one given, or that of the file's ending. Raises click.UsageError where they contradict each other."""
    told = None if output is None else IMAGE_FORMATS.get(output.suffix.lower())
    if format and told and format != told:
        raise click.UsageError(f"--format {format} and {output} do not fit together: leave one of them out")
    return format or told or "jpeg"


def _write(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--output") from None
