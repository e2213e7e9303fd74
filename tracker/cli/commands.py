"""The group of all commands of a program."""

from typing import Any

import click

from tracker.cli.start import ENDED_BY_CTRL_C


class Commands(click.Group):
    """Ctrl-C ends a command quietly, where the command itself has no better use for it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(ENDED_BY_CTRL_C)
