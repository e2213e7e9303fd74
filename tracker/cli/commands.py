"""What commands have in common: their group, and those of `trackctl` its client and the form of results."""

from typing import Any

import click

from tracker.cli.start import ENDED_BY_CTRL_C
from tracker.client import Client

POSITIVE = click.FloatRange(min=0, min_open=True)
pass_client = click.make_pass_decorator(Client)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs; bytes in base64.")


class Commands(click.Group):
    """Ctrl-C ends a command quietly, where the command itself has no better use for it."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(ENDED_BY_CTRL_C)
