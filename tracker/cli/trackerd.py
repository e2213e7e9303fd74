"""`trackerd`: the daemon, and the same models on files."""

import logging
import os
import sys
from pathlib import Path
from typing import NoReturn

import click

from tracker import __version__
from tracker.cli import logs, show
from tracker.cli.commands import Commands, error_text
from tracker.cli.fleet import fleet
from tracker.cli.frame import frame
from tracker.cli.index import index, similar
from tracker.cli.keys import keys
from tracker.cli.models import models
from tracker.cli.segment import segment
from tracker.cli.track import track
from tracker.cli.web import check_page, web, with_page
from tracker.config import load
from tracker.errors import ConfigError, TrackerError


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="trackerd")
def trackerd() -> None:
    """Follow objects in live video, files and pictures with SAM 2."""


@trackerd.command()
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="Configuration file.")
@click.option(
    "--log",
    "style",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How the log on standard error is written, a line an event.",
)
def serve(path: Path, style: logs.Style) -> None:
    """Run the daemon until SIGTERM or Ctrl-C."""
    logs.set_up(load(path).log.level, style)
    from tracker.daemon import serve as daemon

    with with_page(path, style):
        daemon.serve(path)
    # Everything is closed by now; taking torch apart would take the interpreter seconds that nobody gains from.
    logging.shutdown()
    os._exit(0)


@trackerd.command()
@click.option("-c", "--config", "path", required=True, type=click.Path(path_type=Path), help="Configuration file.")
def check(path: Path) -> None:
    """Say everything that is wrong with a configuration, and what its streams lack.

    It succeeds where the daemon starts: also where a film or a secret is not there, whose stream fails.
    """
    from tracker.daemon import checks

    config = checks.check(path, with_sources=True)
    try:
        check_page(config)
    except ConfigError as error:
        raise ConfigError([f"{path}: {problem}" for problem in error.problems]) from None
    lacking = checks.lacking(config)
    for problem in lacking:
        show.say(f"trackerd: {path}: {problem}")
    rest = "the daemon starts, and these streams fail until it is there and they are resumed"
    show.line(f"{path}: nothing wrong{f' but what is not there: {rest}' if lacking else ''}")


trackerd.add_command(fleet)
trackerd.add_command(keys)
trackerd.add_command(models)
trackerd.add_command(track)
trackerd.add_command(frame)
trackerd.add_command(segment)
trackerd.add_command(web)
trackerd.add_command(index)
trackerd.add_command(similar)


def main() -> None:
    """What a person can put right is one line, and exit status 1."""
    # Read when torch loads OpenMP, whose threads spin while they wait. For long, they take the cores from decoding,
    # and a step was 20 times as long on two busy cores; not at all, and a step is half as long again on idle ones.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        trackerd()
    except TrackerError as error:
        _fail(error.message)
    except OSError as error:
        _fail(error_text(error))
    except ModuleNotFoundError as error:  # where only the client was installed
        _fail(f"{error.name} is not installed, which the daemon's own commands need: tools/install brings it along")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _fail("torch and torchvision do not fit together: install both from the lock file, with uv sync")


def _fail(message: str) -> NoReturn:
    for line in f"trackerd: {message}".splitlines():  # a configuration may have many faults, each a line
        show.say(line)
    sys.exit(1)
