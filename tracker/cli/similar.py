"""`trackctl similar` and `trackctl watchlist`: what was seen, found again and waited for."""

from collections.abc import Callable
from typing import Any

import click

from tracker.cli import show
from tracker.cli.commands import json_option, pass_client
from tracker.cli.options import InPath, Numbers
from tracker.client import Client
from tracker.client.options import LookOptions


def _look_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--frame", type=int, help="A buffered frame; the newest if absent."),
        click.option("--box", type=Numbers("X1,Y1,X2,Y2", 4), help="What is meant, on the frame or the picture."),
        click.option("--picture", type=InPath(dir_okay=False), help="Instead of a stream."),
    ):
        command = option(command)
    return command


def _look(options: dict[str, Any]) -> LookOptions:
    """Out of a command's keywords."""
    given = {name: options.pop(name) for name in ("stream", "object", "frame", "box", "picture")}
    in_words = options.get("text") is not None  # then there is no look to be marked
    if not in_words and (given["object"] is None) == (given["box"] is None):
        raise click.UsageError("give either the OBJECT of a STREAM or --box, so that it is clear what is meant")
    if given["picture"] is not None:
        given["picture"] = given["picture"].read_bytes()
    look = LookOptions()
    look.update({name: value for name, value in given.items() if value is not None})  # type: ignore[typeddict-item]
    return look


def _asked(call: Callable[[], Any]) -> Any:
    """What the daemon answers; what cannot even be asked is a wrong use."""
    try:
        return call()
    except ValueError as error:
        raise click.UsageError(str(error)) from None


@click.command()
@click.argument("stream", required=False)
@click.argument("object", type=int, required=False)
@_look_options
@click.option("--text", help="What it is, in words, instead of a look; the daemon needs CLIP for that.")
@click.option("--on", help="Only what was seen on this stream.")
@click.option("--since", type=float, help="Unix seconds.")
@click.option("--until", type=float, help="Unix seconds.")
@click.option("--label")
@click.option("--limit", type=int, default=20, show_default=True)
@json_option
@pass_client
def similar(client: Client, /, as_json: bool, **options: Any) -> None:
    """Where else was this? An object, what a box is around on a frame or on a picture, or what a text says."""
    look = _look(options)
    filters = {name: value for name, value in options.items() if value is not None}
    show.result(_asked(lambda: client.similar(**look, **filters)), as_json, show.hit_table)


@click.group()
def watchlist() -> None:
    """Looks that are waited for on all streams: event looks_like."""


@watchlist.command("add")
@click.argument("name")
@click.argument("stream", required=False)
@click.argument("object", type=int, required=False)
@_look_options
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.9, show_default=True)
@json_option
@pass_client
def watchlist_add(client: Client, /, name: str, threshold: float, as_json: bool, **options: Any) -> None:
    """Wait for what looks like an object, or like what a box is around."""
    look = _look(options)
    record = _asked(lambda: client.watch_for(name, threshold=threshold, **look))
    show.result(record, as_json, lambda record: show.watch_table([record]))


@watchlist.command("ls")
@json_option
@pass_client
def watchlist_ls(client: Client, as_json: bool) -> None:
    """List what is waited for."""
    show.result(client.watched(), as_json, lambda result: show.watch_table(result.watched))


@watchlist.command("rm")
@click.argument("number", type=int)
@json_option
@pass_client
def watchlist_rm(client: Client, number: int, as_json: bool) -> None:
    """Wait for it no longer."""
    show.result(client.stop_watching(number), as_json, lambda record: show.line(f"removed {number}, {record.name}"))
