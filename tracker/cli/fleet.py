"""`trackerd fleet`: many boxes, and the streams on them. nats-py is imported where one of them runs."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import logs, show
from tracker.config import LogConfig
from tracker.errors import ConfigError

if TYPE_CHECKING:
    from tracker.fleet.buckets import Buckets
    from tracker.fleet.people import FleetState

NATS = "nats://127.0.0.1:4222"
nats_option = click.option(
    "--nats", "server", envvar="TRACKER_NATS", show_envvar=True, default=NATS, show_default=True, help="Server."
)
credentials_option = click.option("--creds", "credentials", envvar="TRACKER_NATS_CREDS", help="Credentials file.")
ca_option = click.option("--ca", envvar="TRACKER_NATS_CA", help="Certificates that the server is checked by.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
CONFIG = click.Path(path_type=Path)


def nats_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return nats_option(credentials_option(ca_option(command)))


@click.group()
def fleet() -> None:
    """Many boxes: say which streams there are, once, and never on which box."""


@fleet.command()
@click.option("-c", "--config", "path", required=True, type=CONFIG, help="The box's configuration file.")
def serve(path: Path) -> None:
    """Run a box beside its daemon until SIGTERM or Ctrl-C: it takes streams, keeps them, gives them away."""
    from tracker.fleet.serve import serve as serve_box
    from tracker.fleet.settings import load_box

    logs.set_up(LogConfig().level)
    asyncio.run(_until_stopped(serve_box(load_box(path))))


@fleet.command()
@click.argument("path", metavar="CAMERAS.YAML", type=CONFIG)
@click.option("--prune", is_flag=True, help="Want no streams but those of the file.")
@nats_options
@json_option
def apply(path: Path, prune: bool, as_json: bool, **nats: Any) -> None:
    """Want the streams of a file: `streams:`, names to what streams.add takes, and `needs:`."""
    from tracker.fleet import people
    from tracker.fleet.settings import load_cameras

    wanted = load_cameras(path)
    applied = _ask(lambda buckets: people.apply(buckets, wanted, prune=prune), nats)
    if as_json:
        show.line(show.as_json(applied))
        return
    for word, names in (("added", applied.added), ("changed", applied.changed), ("removed", applied.removed)):
        if names:
            show.line(f"{word}: {', '.join(names)}")


@fleet.command("ls")
@nats_options
@json_option
def list_(as_json: bool, **nats: Any) -> None:
    """Boxes, and which stream is on which."""
    from tracker.fleet import people

    state = _ask(people.state, nats)
    if as_json:
        show.line(show.as_json(state))
    else:
        _print_state(state)


@fleet.command()
@click.argument("box")
@click.option("--undo", is_flag=True, help="Let it take streams again.")
@click.option("--wait", is_flag=True, help="Until it has no streams any more.")
@nats_options
def drain(box: str, undo: bool, wait: bool, **nats: Any) -> None:
    """Have a box give its streams to others, and take none."""
    from tracker.fleet import people

    async def work(buckets: "Buckets") -> None:
        await people.drain(buckets, box, undo=undo)
        while wait and any(stream.box == box for stream in (await people.state(buckets)).streams):
            await asyncio.sleep(0.5)

    _ask(work, nats)


@fleet.command()
@click.argument("stream")
@click.option("--to", help="The box that it is to go to; absent: any other.")
@nats_options
def move(stream: str, to: str | None, **nats: Any) -> None:
    """Have a stream go to another box."""
    from tracker.fleet import people

    _ask(lambda buckets: people.move(buckets, stream, to), nats)


@fleet.command()
@click.argument("streams", nargs=-1, required=True)
@nats_options
def rm(streams: tuple[str, ...], **nats: Any) -> None:
    """Want streams no longer."""
    from tracker.fleet import people

    async def work(buckets: "Buckets") -> None:
        for stream in streams:
            await people.remove(buckets, stream)

    _ask(work, nats)


def _ask(work: "Callable[[Buckets], Awaitable[Any]]", nats: dict[str, Any]) -> Any:
    from tracker.client.nats_connection import NatsOptions, connect_nats
    from tracker.fleet.buckets import Buckets

    async def ask() -> Any:
        options = NatsOptions([nats["server"]], nats["credentials"], nats["ca"])
        connection = await connect_nats(options, "trackerd fleet")
        try:
            return await work(await Buckets.open(connection))
        except TimeoutError:
            problem = f"{nats['server']}: JetStream does not answer; is it on (nats-server -js)?"
            raise ConfigError([problem]) from None
        finally:
            await connection.close()

    return asyncio.run(ask())


async def _until_stopped(work: "Awaitable[None]") -> None:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _print_state(state: "FleetState") -> None:
    rows = [
        (b.box, f"{b.streams}/{b.streams_room}", f"{b.objects}/{b.objects_room}", _labels(b.labels), b.message)
        for b in state.boxes
    ]
    show.print_table(("box", "streams", "objects", "labels", ""), rows)
    show.line("")
    streams = [(s.stream, s.box or "nowhere", s.state, _labels(s.needs), s.url, s.message) for s in state.streams]
    show.print_table(("stream", "box", "state", "needs", "url", ""), streams)


def _labels(labels: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
