"""What the commands that work on files have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from tracker.engine.engine import Engine

Command = TypeVar("Command", bound=Callable[..., Any])

OUT_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


class Numbers(click.ParamType):
    """Numbers with commas between them, as many as one of `counts`."""

    def __init__(self, name: str, *counts: int) -> None:
        self.name = name
        self._counts = counts

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts:
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return numbers


POINT = Numbers("X,Y[,LABEL]", 2, 3)
BOX = Numbers("X1,Y1,X2,Y2", 4)


def model_options(command: Command) -> Command:
    """The options of every command that loads a model; `load_engine` takes them."""
    for option in (
        click.option(
            "--fill-holes",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            help="Largest hole that is filled, in pixels of the low-resolution mask. 0: none, as the official "
            "predictor without its CUDA extension.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."),
        click.option("--image-size", type=int, help="Side that the model works at, a multiple of 32."),
        click.option("--checkpoint", help="A local file instead of the model's own weights."),
        click.option("--model", default="nano", show_default=True, help="See `trackerd models list`."),
    ):
        command = option(command)
    return command


def load_engine(
    model: str, checkpoint: str | None, image_size: int | None, device: str, fill_holes: int
) -> "Engine":
    """The engine that the options name. Raises ModelError."""
    from tracker.config import EngineConfig, ModelConfig
    from tracker.engine.engine import Engine
    from tracker.engine.model import load_model

    config = ModelConfig(name=model, checkpoint=checkpoint, image_size=image_size, device=device)
    return Engine(load_model(config), EngineConfig(fill_hole_area=fill_holes))


def progress_bar() -> Progress:
    """On standard error, so that standard output stays for results."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
