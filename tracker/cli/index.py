"""`trackerd index` and `trackerd similar`: things on pictures, found again by their looks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tracker.cli import show
from tracker.cli.options import ModelOptions, Numbers, knob_options, knobs_of, model_options, progress_bar
from tracker.errors import BadPrompt, SourceError

if TYPE_CHECKING:  # torch and SQLite: only when there is work
    from tracker.offline.index import Item

BOX = Numbers("X1,Y1,X2,Y2", 4)
DB = click.option("--db", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The index's file.")


@click.command()
@click.argument("photos", metavar="[PHOTO]...", nargs=-1, type=click.Path())
@click.option("--box", type=BOX, help="What is to be found again on each; else all of the picture.")
@click.option("--everything", is_flag=True, help="Everything that the model finds on them.")
@click.option(
    "--list",
    "listed",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='JSON lines: {"path": …, "box": [x1, y1, x2, y2]}, the box if any.',
)
@DB
@knob_options
@model_options
def index(
    photos: Sequence[str],
    box: tuple[float, ...] | None,
    everything: bool,
    listed: Path | None,
    db: Path,
    **options: Any,
) -> None:
    """Keep what things on pictures look like. Begun again, it goes on where it was interrupted."""
    if everything and box is not None:
        raise click.UsageError("give --box or --everything, not both")
    if not photos and listed is None:
        raise click.UsageError("no pictures: give PHOTO... or --list")
    knobs = knobs_of(options)
    from tracker.offline.index import Item, opened

    items = [Item(photo, _four(box)) for photo in photos]
    items += _listed(listed) if listed is not None else []
    engine = ModelOptions.take(options).load()
    failed = 0
    with opened(db, engine) as pictures, progress_bar() as bar:
        for item in bar.track(items, description="pictures"):
            if pictures.has(item, everything):
                continue
            try:
                pictures.add(item, knobs if everything else None)
            except (SourceError, BadPrompt) as error:
                failed += 1
                show.say(error.message if isinstance(error, SourceError) else f"{item.path}: {error.message}")
    if failed:
        raise SourceError(f"{failed} of {len(items)} pictures could not be indexed")


@click.command()
@click.argument("photo", type=click.Path())
@click.option("--box", type=BOX, help="What is looked for; else all of the picture.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@DB
@model_options
def similar(photo: str, box: tuple[float, ...] | None, limit: int, as_json: bool, db: Path, **options: Any) -> None:
    """Find on indexed pictures what looks like a thing on this one, best first."""
    if not db.is_file():
        raise SourceError(f"{db}: is not there; `trackerd index` makes it")
    from tracker.offline.index import Item, opened

    engine = ModelOptions.take(options).load()
    with opened(db, engine) as pictures:
        found = pictures.find(Item(photo, _four(box)), limit)
        left_out = pictures.left_out()
    hits = [
        {"path": hit.look.label, "box": list(hit.look.box), "score": round(hit.score, 4), "kind": hit.look.kind}
        for hit in found
    ]
    if as_json:
        show.line(json.dumps({"hits": hits}, ensure_ascii=False))
    else:
        show.print_table(("score", "path", "box"), [(h["score"], h["path"], _text(h["box"])) for h in hits])
    if left_out:
        show.say(f"{left_out} looks are of another model, and were not compared")


def _listed(path: Path) -> Iterator["Item"]:
    """Raises SourceError for a line that is not as it should be."""
    from tracker.offline.index import Item

    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=Item)
        except msgspec.DecodeError as error:
            raise SourceError(
                f'{path}: line {number} is not {{"path": …, "box": [x1, y1, x2, y2]}}: {error}'
            ) from None


def _four(box: tuple[float, ...] | None) -> Any:
    return None if box is None else tuple(box)


def _text(box: Any) -> str:
    return ",".join(map(str, box))
