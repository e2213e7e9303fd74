"""What the commands that work on files have in common: groups of options, and what becomes of them.

Each group is a decorator that adds the options and a class that takes its own out of a command's keywords.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

import click
import msgspec

from tracker.config import EdgesFrom, ModelConfig
from tracker.config.wording import of_option
from tracker.errors import BadRequest
from tracker.protocol.requests import Prompted, SegmentAll

if TYPE_CHECKING:  # torch takes seconds to import, rich a tenth of one: only when there is work
    from rich.progress import Progress

    from tracker.engine.engine import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

# The knobs of the mask generator; the rest of the request says what it is done with.
KNOBS = [f for f in msgspec.structs.fields(SegmentAll) if f.name not in ("stream", "frame", "track")]


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them, as many as one of `counts`."""

    def __init__(self, name: str, *counts: int) -> None:
        self.name = name
        self._counts = counts

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts or not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return numbers


class InPath(click.Path):
    """A file or folder that is there. An address is refused without being repeated: it may hold a password."""

    def __init__(self, **options: Any) -> None:
        super().__init__(exists=True, path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if "://" in str(value):
            self.fail("is an address, and files and folders are read here; for cameras: trackerd serve", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True, slots=True)
class Group:
    """Options that belong together."""

    @classmethod
    def take(cls, options: dict[str, Any]) -> Self:
        """Out of a command's keywords."""
        return cls(**{field.name: options.pop(field.name) for field in fields(cls)})


@dataclass(frozen=True, slots=True)
class Marks(Group):
    """What marks one object on the command line."""

    points: Sequence[tuple[float, ...]]
    box: tuple[float, ...] | None

    def __bool__(self) -> bool:
        return bool(self.points or self.box)

    def as_args(self) -> dict[str, Any]:
        """The fields of a `Prompted`."""
        return {
            "points": [(x, y) for x, y, *_ in self.points] or None,
            "labels": [int(label[0]) if label else 1 for _, _, *label in self.points] or None,
            "box": self.box,
        }

    def as_prompted(self) -> Prompted:
        return msgspec.convert(self.as_args(), Prompted)


def mark_options(command: Command) -> Command:
    point, box = Numbers("X,Y[,LABEL]", 2, 3), Numbers("X1,Y1,X2,Y2", 4)
    return _with(
        command,
        click.option(
            "--point", "points", type=point, multiple=True, help="A click; LABEL 0 is what the object is not."
        ),
        click.option("--box", type=box, help="A box around the object."),
    )


@dataclass(frozen=True, slots=True)
class ModelOptions(Group):
    model: str
    checkpoint: str | None
    image_size: int | None
    device: str
    fill_holes: int
    edges: EdgesFrom

    def load(self) -> "Engine":
        """The engine that the options name. Raises ModelError, and BadRequest for what is out of range."""
        from tracker.config import EngineConfig
        from tracker.engine.engine import Engine
        from tracker.engine.models.build import load_model

        return Engine(load_model(self.as_config()), EngineConfig(fill_hole_area=self.fill_holes, edges=self.edges))

    def as_config(self) -> ModelConfig:
        """Raises BadRequest for what is out of range."""
        names = ("checkpoint", "image_size", "device")
        given = {"name": self.model, **{name: getattr(self, name) for name in names}}
        try:
            return msgspec.convert(given, ModelConfig)
        except msgspec.ValidationError as error:
            raise BadRequest(of_option(error)) from None


def model_options(command: Command) -> Command:
    return _with(
        command,
        click.option("--model", default="nano", show_default=True, help="See `trackerd models list`."),
        click.option("--checkpoint", help="A local file instead of the model's own weights."),
        click.option("--image-size", type=int, help="Side that the model works at, a multiple of 32."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."),
        click.option(
            "--fill-holes",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Largest hole that is filled, in pixels of the low-resolution mask. 0: none, as the official "
            "predictor without its CUDA extension.",
        ),
        click.option(
            "--edges",
            type=click.Choice(get_args(EdgesFrom)),
            default="auto",
            show_default=True,
            help="Where masks end: where the picture's colours change, or as the model has them, which is as the "
            "official predictor. auto: the picture's for nano.",
        ),
    )


def knob_options(command: Command) -> Command:
    """The mask generator's knobs under their official names; `knobs_of` takes them."""
    options = []
    for knob in KNOBS:
        name = knob.name.replace("_", "-")
        flag = f"--{name}/--no-{name}" if isinstance(knob.default, bool) else f"--{name}"
        options.append(
            click.option(
                flag, type=type(knob.default), default=knob.default, show_default=True, help="Of --everything."
            )
        )
    return _with(command, *options)


def knobs_of(options: dict[str, Any]) -> SegmentAll:
    """Out of a command's keywords. Raises BadRequest for what is out of range."""
    values: Mapping[str, Any] = {knob.name: options.pop(knob.name) for knob in KNOBS}
    try:
        return msgspec.convert({"stream": "file", **values}, SegmentAll)
    except msgspec.ValidationError as error:
        raise BadRequest(of_option(error)) from None


def progress_bar() -> "Progress":
    """On standard error, so that standard output stays for results."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _with(command: Command, *options: Callable[[Command], Command]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
