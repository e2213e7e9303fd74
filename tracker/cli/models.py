"""`trackerd models`: what there is, where it lies, and how to get it."""

import json
from dataclasses import asdict

import click

from tracker.cli import show as tables
from tracker.cli.show import line


@click.group()
def models() -> None:
    """Models that can be named in `model.name` and `--model`."""


@models.command("list")
def list_() -> None:
    """List the models, and which of them are here."""
    from tracker.engine.models import zoo

    rows = []
    for name in zoo.names():
        weights = zoo.weights(name)
        state = "here" if zoo.checkpoint_path(name).is_file() else "not fetched"
        rows.append((name, state, weights.url if weights else "comes with the package"))
    tables.print_table(("name", "weights", "fetch from"), rows, remark=True)


@models.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def show(name: str, as_json: bool) -> None:
    """Show one model: its config and checkpoint, its image size and number of parameters."""
    from tracker.engine.models import zoo

    info = asdict(zoo.show(name))
    if as_json:
        line(json.dumps(info, default=str))
        return
    for key, value in info.items():
        line(f"{key:>12}  {value}")


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a model's weights: resumes, and verifies what it got."""
    from tracker.engine.models import zoo

    line(f"{name}: {zoo.fetch(name)}")
