"""`trackctl streams`: sources opened, let go and taken up again."""

from collections.abc import Callable
from typing import Any

import click
from msgspec import Struct

from tracker.cli import show
from tracker.cli.commands import json_option, pass_client
from tracker.client import Client
from tracker.config import StreamConfig


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def streams(ctx: click.Context, as_json: bool) -> None:
    """List the streams, or add, remove, pause and resume one."""
    if ctx.invoked_subcommand is None:
        show.result(ctx.obj.streams(), as_json, lambda result: show.stream_table(result.streams))


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
    show.result(record, as_json, lambda record: show.stream_table([record]))


def _stream_command(name: str, does: str, call: Callable[[Client, str], Struct]) -> None:
    @streams.command(name, help=does)
    @click.argument("stream")
    @json_option
    @pass_client
    def command(client: Client, stream: str, as_json: bool) -> None:
        show.result(call(client, stream), as_json, lambda record: show.stream_table([record]))


_stream_command("remove", "Close a stream and forget its objects.", Client.remove_stream)
_stream_command("pause", "Stop reading a stream's source.", Client.pause_stream)
_stream_command("resume", "Read a paused stream's source again.", Client.resume_stream)
