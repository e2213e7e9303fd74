"""`trackctl add`, `refine`, `rm` and `describe`: objects marked, corrected, removed and described."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import show
from tracker.cli.commands import json_option, pass_client
from tracker.cli.options import InPath, Marks, mark_options
from tracker.client import Client

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IN_FILE = InPath(dir_okay=False)


def _marked(command: Callable[..., None]) -> Callable[..., None]:
    """The options that mark an object; the command gets them as `marks`."""

    @mark_options
    @click.option("--mask", type=IN_FILE, help="An image of the frame's size: what is not 0 is the object.")
    @click.option("--frame", type=int, help="A buffered frame; the newest if absent.")
    @functools.wraps(command)
    def with_marks(*args: Any, mask: Path | None, **options: Any) -> None:
        marks = Marks.take(options)
        if not marks and mask is None:
            raise click.UsageError("mark the object: give --point, --box or --mask")
        given = marks.as_args() | {"mask": None if mask is None else _read_mask(mask)}
        command(*args, marks=_given(given), **options)

    return with_marks


@click.command()
@click.argument("stream")
@_marked
@click.option("--time", type=float, help="Unix seconds: the buffered frame nearest to it.")
@click.option("--object", type=int, help="The id that it gets; the next free one if absent.")
@click.option("--label")
@click.option("--expire", "expire_s", type=float, help="Remove it when it has been lost for so many seconds.")
@json_option
@pass_client
def add(client: Client, /, stream: str, marks: dict[str, Any], as_json: bool, **options: Any) -> None:
    """Track a new object, marked by points, a box, both, or a mask."""
    result = client.add(stream, **marks, **_given(options))
    show.result(result, as_json, lambda result: show.object_table([result]))


@click.command()
@click.argument("stream")
@click.argument("object", type=int)
@_marked
@click.option("--replace", is_flag=True, help="Start this frame afresh.")
@json_option
@pass_client
def refine(
    client: Client, /, stream: str, object: int, marks: dict[str, Any], as_json: bool, **options: Any
) -> None:
    """Correct an object by further points, a box or a mask."""
    result = client.refine(stream, object, **marks, **_given(options))
    show.result(result, as_json, lambda result: show.object_table([result]))


@click.command()
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
        show.result(removed, as_json, lambda result: show.line(f"removed {', '.join(map(str, result.removed))}"))


@click.command()
@click.argument("stream")
@click.argument("object", type=int)
@click.argument("question", required=False)
@json_option
@pass_client
def describe(client: Client, stream: str, object: int, question: str | None, as_json: bool) -> None:
    """Have a model say in words what an object is, or answer a question about it."""
    show.result(client.describe(stream, object, question), as_json, lambda found: show.line(found.text))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _read_mask(path: Path) -> "NDArray[np.bool_]":
    import numpy as np
    from PIL import Image

    try:
        with Image.open(path) as image:
            pixels_hwc = np.atleast_3d(np.asarray(image if image.mode == "P" else image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise click.BadParameter(f"{path} is not a picture that can be read", param_hint="--mask") from None
    inside_hw: NDArray[np.bool_] = np.any(pixels_hwc, axis=2)
    return inside_hw
