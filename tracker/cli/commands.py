"""What commands have in common: their group, and those of `trackctl` its client, the form of results, and errors in
the words of their options."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click
from click.exceptions import Exit

from tracker.cli.start import ENDED_BY_CTRL_C
from tracker.client import Client
from tracker.errors import TrackerError

POSITIVE = click.FloatRange(min=0, min_open=True)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs; bytes in base64.")

P = ParamSpec("P")

# `args.max_width: …`, `points[0]: …`, `mask.size: …`, `--labels: …`: a field, and then what is wrong with it.
_FIELD = re.compile(r"(?:args\.|--)?([\w-]+)[^\s:]*: ")


def pass_client(command: Callable[Concatenate[Client, P], None]) -> Callable[P, None]:
    """The client is the command's first argument; what is refused names what was typed."""

    @click.make_pass_decorator(Client)
    @functools.wraps(command)
    def with_client(client: Client, /, *args: P.args, **options: P.kwargs) -> None:
        try:
            command(client, *args, **options)
        except TrackerError as error:
            error.args = (as_typed(error.message), *error.args[1:])
            raise

    return with_client


def as_typed(message: str) -> str:
    """What is wrong with a field, said of the option of the running command that it came from."""
    ctx = click.get_current_context()
    field = _FIELD.match(message)
    option = None if field is None else _option_of(ctx.command, field[1].replace("-", "_"))
    if field is None or option is None:
        return message.removeprefix("args.")
    value = ctx.params.get(str(option.name))
    file = f" {value}" if isinstance(value, Path) else ""
    return f"{max(option.opts, key=len)}{file}: {message[field.end() :]}"


def error_text(error: OSError) -> str:
    """What the system refused, and of what."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


def _option_of(command: click.Command, name: str) -> click.Option | None:
    options = (param for param in command.params if isinstance(param, click.Option))
    return next((option for option in options if option.name == name), None)


class Commands(click.Group):
    """Ctrl-C ends a command quietly, where the command itself has no better use for it."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except KeyboardInterrupt:  # while the options are read: click would say that it was aborted
            raise Exit(ENDED_BY_CTRL_C) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(ENDED_BY_CTRL_C)
