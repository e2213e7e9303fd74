"""`trackctl`: a daemon's commands for people and for scripts.

Exit codes: 0 done, 1 the daemon refused, 2 wrong usage, 3 no answer, 130 ended by Ctrl-C.
"""

import contextlib
import functools
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct, structs

from tracker import __version__
from tracker.cli import show
from tracker.cli.commands import Commands
from tracker.cli.options import Numbers
from tracker.cli.outputs import OVERWRITE, OutFile, check_paths
from tracker.cli.record import record
from tracker.cli.similar import similar, watchlist
from tracker.cli.zones import zones
from tracker.client import CONTROL, TIMEOUT_S, Client
from tracker.client.connection import check_stream
from tracker.client.marks import Box
from tracker.client.messages import Message
from tracker.client.options import Marks
from tracker.config import StreamConfig
from tracker.errors import ConfigError, Timeout, TrackerError
from tracker.protocol.fields import ImageFormat

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

REFUSED, NO_ANSWER = 1, 3
PIN_S = 60  # how long the daemon keeps a frame that somebody looks at
IMAGE_FORMATS: dict[str, ImageFormat] = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}
ENDINGS = "A file that ends in " + ", ".join(IMAGE_FORMATS)
POSITIVE = click.FloatRange(min=0, min_open=True)
POINT, BOX = Numbers("X,Y[,LABEL]", 2, 3), Numbers("X1,Y1,X2,Y2", 4)
IN_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
pass_client = click.make_pass_decorator(Client)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")


class _Commands(Commands):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(error.message, ctx) from None
        except TrackerError as error:
            show.say(f"{ctx.info_name}: {error.code}: {error.message}")
            ctx.exit(NO_ANSWER if isinstance(error, Timeout) else REFUSED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--control", envvar="TRACKER_CONTROL", show_envvar=True, default=CONTROL, show_default=True)
@click.option("--publish", envvar="TRACKER_PUBLISH", show_envvar=True, help="The daemon knows it if it is absent.")
@click.option("--timeout", "timeout_s", type=POSITIVE, default=TIMEOUT_S, show_default=True, help="Seconds.")
@click.version_option(__version__, prog_name="trackctl")
@click.pass_context
def main(ctx: click.Context, control: str, publish: str | None, timeout_s: float) -> None:
    """Command a running trackerd, and listen to it."""
    ctx.obj = ctx.with_resource(Client(control, publish, timeout_s))


@main.command()
@json_option
@pass_client
def info(client: Client, as_json: bool) -> None:
    """Show the daemon, its model and its limits."""
    _print(client.info(), as_json, show.info_table)


# ---------------------------------------------------------------------------------------------------- streams


@main.group(invoke_without_command=True)
@json_option
@click.pass_context
def streams(ctx: click.Context, as_json: bool) -> None:
    """List the streams, or add, remove, pause and resume one."""
    if ctx.invoked_subcommand is None:
        _print(ctx.obj.streams(), as_json, lambda result: show.stream_table(result.streams))


@streams.command("add")
@click.argument("stream")
@click.argument("url")
@click.option("--format", help="An FFmpeg input format, where the URL does not tell.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An FFmpeg option; repeatable.")
@click.option("--transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@click.option("--pace", type=click.Choice(["real", "all"]), default="real", show_default=True)
@click.option("--loop", is_flag=True, help="Begin a file again at its end.")
@click.option("--fps", type=float, help="No more frames a second than this.")
@click.option("--size", type=(int, int), metavar="W H", help="Decode to this size.")
@click.option("--hwaccel", type=click.Choice(["auto", "cuda", "vaapi", "none"]), default="none", show_default=True)
@click.option("--priority", type=int, default=0, show_default=True)
@click.option("--min-fps", type=float, default=0.0, help="Refuse objects that would slow it down below this.")
@json_option
@pass_client
def streams_add(
    client: Client, /, stream: str, url: str, options: tuple[str, ...], as_json: bool, **fields: Any
) -> None:
    """Open a source that the daemon's configuration allows."""
    if wrong := [option for option in options if "=" not in option]:
        raise click.BadParameter(f"{wrong[0]!r} is not KEY=VALUE", param_hint="--option")
    pairs = dict(option.split("=", 1) for option in options)
    record = client.add_stream(stream, StreamConfig(url=url, options=pairs, **fields))
    _print(record, as_json, lambda record: show.stream_table([record]))


def _stream_command(name: str, does: str, call: Callable[[Client, str], Struct]) -> None:
    @streams.command(name, help=does)
    @click.argument("stream")
    @json_option
    @pass_client
    def command(client: Client, stream: str, as_json: bool) -> None:
        _print(call(client, stream), as_json, lambda record: show.stream_table([record]))


_stream_command("remove", "Close a stream and forget its objects.", Client.remove_stream)
_stream_command("pause", "Stop reading a stream's source.", Client.pause_stream)
_stream_command("resume", "Read a paused stream's source again.", Client.resume_stream)


# ---------------------------------------------------------------------------------------------------- objects


def _marked(command: Callable[..., None]) -> Callable[..., None]:
    """The options that mark an object; the command gets them as `marks`."""

    @click.option("--point", "points", type=POINT, multiple=True, help="A click; LABEL 0: not the object.")
    @click.option("--box", type=BOX, help="A box around the object.")
    @click.option("--mask", type=IN_FILE, help="An image of the frame's size: what is not 0 is the object.")
    @click.option("--frame", type=int, help="A buffered frame; the newest if absent.")
    @functools.wraps(command)
    def with_marks(
        *args: Any, points: tuple[tuple[float, ...], ...], box: Box | None, mask: Path | None, **rest: Any
    ) -> None:
        command(*args, marks=_marks(points, box, mask), **rest)

    return with_marks


@main.command()
@click.argument("stream")
@_marked
@click.option("--time", type=float, help="Unix seconds: the buffered frame nearest to it.")
@click.option("--object", type=int, help="The id that it gets; the next free one if absent.")
@click.option("--label")
@click.option("--expire", "expire_s", type=float, help="Remove it when it has been lost for so many seconds.")
@json_option
@pass_client
def add(client: Client, /, stream: str, marks: Marks, as_json: bool, **options: Any) -> None:
    """Track a new object, marked by points, a box, both, or a mask."""
    result = client.add(stream, **marks, **_given(options))
    _print(result, as_json, lambda result: show.object_table([result]))


@main.command()
@click.argument("stream")
@click.argument("object", type=int)
@_marked
@click.option("--replace", is_flag=True, help="Start this frame afresh.")
@json_option
@pass_client
def refine(client: Client, /, stream: str, object: int, marks: Marks, as_json: bool, **options: Any) -> None:
    """Correct an object by further points, a box or a mask."""
    result = client.refine(stream, object, **marks, **_given(options))
    _print(result, as_json, lambda result: show.object_table([result]))


@main.command()
@click.argument("stream")
@click.argument("objects", metavar="[OBJECT]...", type=int, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every object of the stream.")
@json_option
@pass_client
def rm(client: Client, stream: str, objects: tuple[int, ...], everything: bool, as_json: bool) -> None:
    """Stop tracking objects."""
    if everything == bool(objects):
        raise click.UsageError("give either objects or --all")
    calls = [{"all": True}] if everything else [{"object": id_} for id_ in objects]
    for call in calls:
        removed = client.remove(stream, **call)
        _print(removed, as_json, lambda result: show.line(f"removed {', '.join(map(str, result.removed))}"))


@main.command()
@click.argument("stream", required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that are kept and wait for their stream.")
@json_option
@pass_client
def ls(client: Client, stream: str | None, everything: bool, as_json: bool) -> None:
    """List the objects."""
    _print(client.objects(stream, all=everything), as_json, show.object_list)


@main.command()
@click.argument("stream", required=False)
@click.argument("object", type=int, required=False)
@click.option("--since", "since_s", type=POSITIVE, metavar="SECONDS", help="From so many seconds ago on.")
@click.option("--limit", type=click.IntRange(1, 4096), default=100, show_default=True)
@json_option
@pass_client
def history(
    client: Client, stream: str | None, object: int | None, since_s: float | None, limit: int, as_json: bool
) -> None:
    """Show what happened, the newest last."""
    since = None if since_s is None else time.time() - since_s
    result = client.history(stream, object, since, limit)
    if stream is not None and not result.events:
        check_stream(stream, client.streams())
    _print(result, as_json, show.event_lines)


# ------------------------------------------------------------------------------------------- pictures, messages


@main.command()
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
    image = client.snapshot(stream, format=chosen, pin_s=PIN_S, **options)
    if to_stdout:
        sys.stdout.buffer.write(image.data)
        return
    path = output or Path(f"{stream}-{image.frame}.{'jpg' if chosen == 'jpeg' else 'png'}")
    if output is None:
        check_paths([path], overwrite=overwrite)
    _write(path, image.data)
    if as_json:
        record = structs.asdict(image) | {"file": str(path)}
        del record["data"]
        show.line(show.as_json(record))
    else:
        kept = f"to mark something on it within {PIN_S} s: trackctl add {stream} --frame {image.frame} --point X,Y"
        show.line(f"{path}: frame {image.frame} of {stream}, {len(image.data)} bytes; {kept}")


def _format_of(format: ImageFormat | None, output: Path | None) -> ImageFormat:
    """The one given, or that of the file's ending. Raises click.UsageError where they contradict each other."""
    told = None if output is None else IMAGE_FORMATS.get(output.suffix.lower())
    if format and told and format != told:
        raise click.UsageError(f"--format {format} and {output} do not fit together: leave one of them out")
    return format or told or "jpeg"


@main.command()
@click.argument("stream", required=False)
@click.option("--topic", "topics", multiple=True, default=("tracks", "events"), show_default=True)
@click.option("--count", type=click.IntRange(1), help="Stop after so many messages.")
@json_option
@pass_client
def watch(client: Client, stream: str | None, topics: tuple[str, ...], count: int | None, as_json: bool) -> None:
    """Print messages as they come, until Ctrl-C. Topics: tracks, events, status, frames/WIDTH."""
    try:
        subscription = client.subscribe(stream, topics)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--topic") from None
    with subscription, contextlib.suppress(KeyboardInterrupt):
        for message in itertools.islice(subscription, count):
            _print_message(message, as_json)


@main.command()
@click.argument("stream")
@click.argument("object", type=int)
@click.argument("question", required=False)
@json_option
@pass_client
def describe(client: Client, stream: str, object: int, question: str | None, as_json: bool) -> None:
    """Have a model say in words what an object is, or answer a question about it."""
    _print(client.describe(stream, object, question), as_json, lambda found: show.line(found.text))


main.add_command(record)
main.add_command(zones)
main.add_command(similar)
main.add_command(watchlist)


# ----------------------------------------------------------------------------------------------------- helpers


def _print_message(message: Message, as_json: bool) -> None:
    if message.lost:
        show.say(f"{message.topic}: {message.lost} messages lost")
    show.line(show.as_json(message.body) if as_json else show.message_line(message))


def _print(result: Struct, as_json: bool, table: Callable[[Any], None]) -> None:
    if as_json:
        show.line(show.as_json(result))
    else:
        table(result)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _marks(points: tuple[tuple[float, ...], ...], box: Box | None, mask: Path | None) -> Marks:
    marks = Marks()
    if points:
        marks["points"] = [(x, y) for x, y, *_ in points]
        marks["labels"] = [int(label[0]) if label else 1 for _, _, *label in points]
    if box is not None:
        marks["box"] = box
    if mask is not None:
        marks["mask"] = _read_mask(mask)
    return marks


def _read_mask(path: Path) -> "NDArray[np.bool_]":
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            indexed = image if image.mode == "P" else image.convert("L")
            return np.asarray(indexed, np.uint8).astype(bool)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise click.BadParameter(f"{path} is not a picture that can be read", param_hint="--mask") from None


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise click.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint="--output") from None
