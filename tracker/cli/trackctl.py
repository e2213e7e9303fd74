"""`trackctl`: a daemon's commands for people and for scripts.

Exit codes: 0 done, 1 the daemon refused, or its answer could not be written, 2 wrong usage, 3 no answer,
130 ended by Ctrl-C.
"""

import contextlib
import errno
import itertools
import time
from typing import Any

import click

from tracker import __version__
from tracker.cli import show
from tracker.cli.commands import POSITIVE, Commands, error_text, json_option, pass_client
from tracker.cli.objects import add, describe, refine, rm
from tracker.cli.record import record
from tracker.cli.similar import similar, watchlist
from tracker.cli.snapshot import snapshot
from tracker.cli.streams import streams
from tracker.cli.zones import zones
from tracker.client import CONTROL, TIMEOUT_S, Client
from tracker.client.messages import Message
from tracker.config.wording import counted
from tracker.errors import ConfigError, Timeout, TrackerError

REFUSED, NO_ANSWER = 1, 3


class _Commands(Commands):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            raise click.UsageError(error.message, ctx) from None
        except TrackerError as error:
            show.say(f"{ctx.info_name}: {error.code}: {error.message}")
            ctx.exit(NO_ANSWER if isinstance(error, Timeout) else REFUSED)
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read has read enough: click's to handle
                raise
            show.say(f"{ctx.info_name}: {error_text(error)}")
            ctx.exit(REFUSED)


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
    show.result(client.info(), as_json, show.info_table)


@main.command()
@click.argument("stream", required=False)
@click.option("--all", "everything", is_flag=True, help="Also those that are kept and wait for their stream.")
@json_option
@pass_client
def ls(client: Client, stream: str | None, everything: bool, as_json: bool) -> None:
    """List the objects."""
    show.result(client.objects(stream, all=everything), as_json, show.object_list)


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
    found = client.history(stream, object, since, limit)
    show.result(found, as_json, show.event_lines)


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


def _print_message(message: Message, as_json: bool) -> None:
    if message.lost:
        show.say(f"{message.topic}: {counted(message.lost, 'message')} lost")
    show.line(show.as_json(message.body) if as_json else show.message_line(message))


for command in (streams, add, refine, rm, snapshot, record, describe, zones, similar, watchlist):
    main.add_command(command)
