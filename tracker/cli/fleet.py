"""`trackerd fleet`: many boxes, and the streams on them. nats-py is imported where one of them runs."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from tracker.cli import logs, show
from tracker.cli.commands import json_option
from tracker.cli.options import Marks, mark_options
from tracker.config import LogConfig
from tracker.config.wording import counted, of_option
from tracker.errors import BadRequest
from tracker.fleet.work import Want, Work, check_paths, check_work

if TYPE_CHECKING:
    from tracker.fleet.buckets import Buckets
    from tracker.fleet.files import Files
    from tracker.fleet.people import FleetState

NATS = "nats://127.0.0.1:4222"
nats_option = click.option(
    "--nats",
    "server",
    envvar="TRACKER_NATS",
    show_envvar=True,
    default=NATS,
    show_default=True,
    help="Server, or several with commas between.",
)
credentials_option = click.option("--creds", "credentials", envvar="TRACKER_NATS_CREDS", help="Credentials file.")
ca_option = click.option("--ca", envvar="TRACKER_NATS_CA", help="Certificates that the server is checked by.")
certificate_option = click.option(
    "--cert", "certificate", envvar="TRACKER_NATS_CERT", help="Our own certificate, where the server wants one."
)
certificate_key_option = click.option(
    "--cert-key", "certificate_key", envvar="TRACKER_NATS_CERT_KEY", help="Its key."
)
MAX_COLUMN = 160
CONFIG = click.Path(path_type=Path)


def nats_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return nats_option(credentials_option(ca_option(certificate_option(certificate_key_option(command)))))


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
    """Want the streams of a file: `streams:`, names to what streams.add takes, and to what each `needs:`."""
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
@click.option("--wait", is_flag=True, help="Until it has no streams, or nobody took one for 30 s.")
@nats_options
def drain(box: str, undo: bool, wait: bool, **nats: Any) -> None:
    """Have a box give its streams to others, and take none."""
    from tracker.fleet import moves

    if undo and wait:
        raise click.UsageError("--undo gives a box nothing to wait for: leave --wait out")

    def tell(left: list[str]) -> None:
        show.say(f"still on {box}, until another box takes them: {moves.shown(left)}")

    async def work(buckets: "Buckets") -> None:
        if undo:
            await moves.undo_drain(buckets, box)
            return
        await moves.drain(buckets, box)
        if wait:
            await moves.until_drained(buckets, box, tell)

    _ask(work, nats)


@fleet.command()
@click.argument("stream")
@click.option("--to", help="The box that it is to go to; absent: any other.")
@nats_options
def move(stream: str, to: str | None, **nats: Any) -> None:
    """Have a stream go to another box, and say to which it went. It stays where no other takes it."""
    from tracker.fleet import moves

    box = _ask(lambda buckets: moves.move(buckets, stream, to), nats)
    show.line(f"{stream} is on {box}")


@fleet.command()
@click.argument("streams", nargs=-1, required=True)
@nats_options
def rm(streams: tuple[str, ...], **nats: Any) -> None:
    """Want streams no longer."""
    from tracker.fleet import people

    _ask(lambda buckets: people.remove(buckets, streams), nats)


@fleet.command()
@click.argument("kind", type=click.Choice(["segment", "track", "index"]))
@click.argument("paths", metavar="FILES...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@mark_options
@click.option("--everything", is_flag=True, help="Everything that is there.")
@click.option(
    "--want",
    multiple=True,
    type=click.Choice(get_args(Want)),
    help="coco (default), masks, overlays; of track also jsonl; of index looks.",
)
@click.option("--model", default="nano", show_default=True, help="See `trackerd models list`.")
@click.option("--image-size", type=int, help="Side that the model works at, a multiple of 32.")
@nats_options
@json_option
def submit(kind: str, paths: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Have idle boxes work on files, which they find under the same names as here."""
    from tracker.fleet import files

    work = _work(kind, options)
    absolute = [path.resolve() for path in paths]
    check_work(work)  # at once, also where there is no NATS
    check_paths(absolute)
    job = _ask_files(lambda there: files.submit(there, work, absolute), options)
    show.line(show.as_json(job) if as_json else job.job)


@fleet.command()
@click.argument("job", required=False)
@click.option(
    "--fetch", type=click.Path(file_okay=False, path_type=Path), help="Folder for JOB's results from NATS."
)
@nats_options
@json_option
def jobs(job: str | None, fetch: Path | None, as_json: bool, **nats: Any) -> None:
    """How far the jobs are; of one JOB the files that failed, and why."""
    from tracker.fleet import files

    if fetch is not None and job is None:
        raise click.UsageError("--fetch: name the job whose results are wanted")
    if job is None:
        found = _ask_files(files.progress, nats)
        rows: list[tuple[Any, ...]] = [(p.job, p.kind, p.files, p.done, p.failed, p.queued) for p in found]
        columns: tuple[str, ...] = ("job", "kind", "files", "done", "failed", "to do")
    else:
        found = _ask_files(lambda there: files.failures(there, job), nats)
        rows = [(failed.path, failed.box, failed.tries, failed.error) for failed in found]
        columns = ("file", "box", "tries", "error")
    if as_json:
        for record in found:
            show.line(show.as_json(record))
    else:
        show.print_table(columns, rows, remark=job is not None)
    if fetch is not None and job is not None:
        number = _ask_files(lambda there: files.fetch(there, job, fetch), nats)
        show.say(f"{counted(number, 'file')} in {fetch}")


@fleet.command("worker", hidden=True)
def work_on_files() -> None:
    """Work on files for a box, as its standard input says."""
    from tracker.cli.fleet_worker import run

    run()


def _work(kind: str, options: dict[str, Any]) -> Work:
    """Out of a command's keywords. Raises BadRequest and ModelError."""
    from tracker.engine.models import zoo

    marks = Marks.take(options)
    if kind != "index" and bool(marks) == options["everything"]:
        raise BadRequest("mark an object with --point and --box, or say --everything")
    fields = {name: options.pop(name) for name in ("everything", "model", "image_size")}
    want = list(options.pop("want")) or ["looks" if kind == "index" else "coco"]
    zoo.config_path(fields["model"])
    try:
        return msgspec.convert(
            {"kind": kind, "want": want, "points": marks.points, "box": marks.box, **fields}, Work
        )
    except msgspec.ValidationError as error:
        raise BadRequest(of_option(error).replace("--points:", "--point:")) from None


def _ask_files(work: "Callable[[Files], Awaitable[Any]]", nats: dict[str, Any]) -> Any:
    async def ask(buckets: "Buckets") -> Any:
        from tracker.fleet.files import Files

        return await work(await Files.open(buckets.nats))

    return _ask(ask, nats)


def _ask(work: "Callable[[Buckets], Awaitable[Any]]", nats: dict[str, Any]) -> Any:
    from tracker.client.nats_options import NatsOptions
    from tracker.fleet.people import ask

    given = {name: value for name, value in nats.items() if name != "server"}
    return asyncio.run(ask(NatsOptions.of(nats["server"], **given), work))


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
    show.print_table(("box", "streams", "objects", "labels", ""), rows, least=("labels",), remark=True)
    show.line("")
    streams = [
        (s.stream, s.box or "nowhere", s.state, _labels(s.needs), _short(s.url), _short(s.message or ""))
        for s in state.streams
    ]
    show.print_table(("stream", "box", "state", "needs", "url", ""), streams, least=("needs",), remark=True)


def _short(text: str) -> str:
    """For a column of a table; `--json` has all of it."""
    return text if len(text) <= MAX_COLUMN else f"{text[: MAX_COLUMN - 1]}…"


def _labels(labels: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())
