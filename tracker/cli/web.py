"""`trackerd web`: the live page by itself, and beside the daemon as a child process."""

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import click

from tracker.cli import logs
from tracker.client import CONTROL
from tracker.client.connection import as_reached
from tracker.config import Config, WebConfig, load
from tracker.errors import ConfigError

log = logging.getLogger(__name__)

ENDPOINT = "127.0.0.1:5580"
STOP_S = 5.0
RETRY_S = 0.1
COMMAND = "from tracker.cli.start import trackerd; trackerd()"


@click.command()
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), help="Take control and web sections from it."
)
@click.option("--daemon", "control", help=f"Control endpoint of the daemon.  [default: {CONTROL}]")
@click.option("--listen", help=f"Address and port of the page.  [default: {ENDPOINT}]")
@click.option("--host", "hosts", multiple=True, help="Further name that browsers may call it by.")
@click.option("--token-file", help="File with the token that browsers have to give.")
@click.option("--log", "style", type=click.Choice(["text", "json"]), default="text", help="How the log is written.")
@click.option("--until-stdin-ends", is_flag=True, hidden=True)
def web(
    path: Path | None,
    control: str | None,
    listen: str | None,
    hosts: tuple[str, ...],
    token_file: str | None,
    style: logs.Style,
    until_stdin_ends: bool,
) -> None:
    """Serve the live page: see the cameras, click to track."""
    config = load(path) if path else Config()
    _need_extra()
    from tracker.web.server import serve

    logs.set_up(config.log.level, style)
    page = WebConfig(
        endpoint=listen or config.web.endpoint or ENDPOINT,
        hosts=[*config.web.hosts, *hosts],
        token_file=token_file or config.web.token_file,
        trusted_proxies=config.web.trusted_proxies,
        user_header=config.web.user_header,
    )
    reached = as_reached(control or config.control.endpoint, CONTROL)
    serve(reached, page, ends_with_stdin=until_stdin_ends)


@contextmanager
def with_page(path: Path, style: logs.Style = "text") -> Iterator[None]:
    """The page that a configuration asks for, as a child process, so that the daemon loads nothing of it.

    It ends with this process, however this ends: the child reads from a pipe that closes then.
    """
    config = load(path)
    check_page(config)
    if config.web.endpoint is None:
        yield
        return
    _wait_for_port(config.web.endpoint)
    command = [sys.executable, "-c", COMMAND, "web", "-c", str(path), "--log", style, "--until-stdin-ends"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        ending = threading.Event()
        watch = threading.Thread(target=_say_its_end, args=(process, ending), name="page", daemon=True)
        watch.start()
        try:
            yield
        finally:
            ending.set()
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            watch.join()


def _wait_for_port(endpoint: str) -> None:
    """Until the page can listen: that of a daemon that was killed may still be ending. Raises ConfigError."""
    from tracker.web.listening import listening

    deadline_s = monotonic() + STOP_S
    while True:
        try:
            return listening(endpoint).close()
        except ConfigError:
            if monotonic() >= deadline_s:
                raise
        sleep(RETRY_S)


def _say_its_end(page: "subprocess.Popen[bytes]", ending: threading.Event) -> None:
    status = page.wait()
    if not ending.is_set():
        log.error(
            "the page's process has ended with status %d: there is no page until the daemon's next start", status
        )


def check_page(config: Config) -> None:
    """Raises ConfigError with everything that is wrong with the page's section."""
    if config.web.endpoint is None:
        return
    _need_extra()
    from tracker.web.access import Access

    Access.of(config.web)


def _need_extra() -> None:
    missing = [name for name in ("starlette", "uvicorn", "websockets") if find_spec(name) is None]
    if missing:
        names = ", ".join(missing)
        raise ConfigError([f"the page needs {names}: tools/install brings them along; elsewhere pip install them"])
