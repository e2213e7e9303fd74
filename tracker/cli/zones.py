"""`trackctl zones`: polygons and lines at which objects are counted."""

from itertools import chain
from typing import Any, Literal

import click
import msgspec

from tracker.cli import show
from tracker.cli.commands import as_typed, json_option, pass_client
from tracker.client import Client
from tracker.config import ZoneConfig
from tracker.config.wording import of_option


class Vertices(click.ParamType[list[tuple[float, float]]]):
    """Coordinates with commas between them, two for each vertex."""

    name = "X,Y,X,Y,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            numbers = [float(word) for word in str(value).split(",")]
            return list(zip(numbers[::2], numbers[1::2], strict=True))
        except ValueError:
            self.fail(f"{value!r} is not {self.name}", param, ctx)


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def zones(ctx: click.Context, as_json: bool) -> None:
    """List zones and lines with their counts, or set and remove one."""
    if ctx.invoked_subcommand is None:
        show.result(ctx.obj.zones(), as_json, lambda result: show.zone_table(result.zones))


@zones.command("list")
@click.argument("stream", required=False)
@json_option
@pass_client
def zones_list(client: Client, stream: str | None, as_json: bool) -> None:
    """List the zones of all streams, or of one."""
    show.result(client.zones(stream), as_json, lambda result: show.zone_table(result.zones))


@zones.command("set")
@click.argument("stream")
@click.argument("zone")
@click.option(
    "--polygon", type=Vertices(), multiple=True, help="Three points or more; together, or each by itself."
)
@click.option(
    "--line", type=Vertices(), multiple=True, help="Two points; what crosses it goes to its left or to its right."
)
@click.option("--fraction", is_flag=True, help="Of the picture's width and height, instead of pixels.")
@click.option("--label", "labels", multiple=True, help="Whom to count, by label or guess; repeatable.")
@click.option("--min-area", type=int, default=0, help="Pixels; smaller objects are not looked at.")
@click.option("--share", type=float, default=0.5, show_default=True, help="Of an object inside: it has entered.")
@click.option("--at", type=click.Choice(["mask", "foot"]), default="mask", show_default=True)
@click.option("--loiter", "loiter_s", type=float, help="Seconds inside after which it is said to be loitering.")
@json_option
@pass_client
def zones_set(
    client: Client,
    /,
    stream: str,
    zone: str,
    polygon: tuple[list[tuple[float, float]], ...],
    line: tuple[list[tuple[float, float]], ...],
    fraction: bool,
    labels: tuple[str, ...],
    as_json: bool,
    **fields: Any,
) -> None:
    """Count at a polygon or a line. One of that name is replaced, and counts from nothing."""
    unit: Literal["pixels", "fraction"] = "fraction" if fraction else "pixels"
    vertices = {"polygon": list(chain(*polygon)) or None, "line": list(chain(*line)) or None}
    _check_count(vertices)
    given = {**vertices, "unit": unit, "labels": list(labels) or None, **fields}
    try:
        config = msgspec.convert(given, ZoneConfig)
    except msgspec.ValidationError as error:
        raise click.UsageError(as_typed(of_option(error))) from None
    show.result(client.set_zone(stream, zone, config), as_json, lambda record: show.zone_table([record]))


def _check_count(vertices: dict[str, list[tuple[float, float]] | None]) -> None:
    line, polygon = vertices["line"], vertices["polygon"]
    if line and len(line) != 2:
        raise click.UsageError(f"--line: takes two points, X,Y,X,Y; here: {len(line)}")
    if polygon and len(polygon) < 3:
        raise click.UsageError(f"--polygon: takes three points or more, X,Y,X,Y,X,Y; here: {len(polygon)}")


@zones.command("remove")
@click.argument("stream")
@click.argument("zone")
@json_option
@pass_client
def zones_remove(client: Client, stream: str, zone: str, as_json: bool) -> None:
    """Count at a zone no longer."""
    show.result(client.remove_zone(stream, zone), as_json, lambda _: show.line(f"removed {zone} of {stream}"))
