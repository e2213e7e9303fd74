"""`trackerd index` and `trackerd similar`: things on pictures, found again by their looks."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from tracker.cli import show
from tracker.cli.options import InPath, ModelOptions, Numbers, knob_options, knobs_of, model_options, progress_bar
from tracker.config.wording import counted, why_unreadable
from tracker.errors import BadPrompt, SourceError
from tracker.protocol.requests import SegmentAll

if TYPE_CHECKING:  # torch and SQLite: only when there is work
    from tracker.offline.index import Item

BOX = Numbers("X1,Y1,X2,Y2", 4)
DB = click.option("--db", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The index's file.")


@click.command()
@click.argument("photos", metavar="[PHOTO_OR_DIR]...", nargs=-1, type=click.Path())
@click.option("--box", type=BOX, help="What is to be found again on each; else all of the picture.")
@click.option("--everything", is_flag=True, help="Everything that the model finds on them.")
@click.option(
    "--list",
    "listed",
    type=InPath(dir_okay=False),
    help='JSON lines: {"path": …, "box": [x1, y1, x2, y2]}, the box if any.',
)
@click.option(
    "--from",
    "others",
    multiple=True,
    type=InPath(),
    help="Take over what another index has, or all indexes (*.db) of a folder.",
)
@DB
@knob_options
@model_options
def index(
    photos: Sequence[str],
    box: tuple[float, ...] | None,
    everything: bool,
    listed: Path | None,
    others: Sequence[Path],
    db: Path,
    **options: Any,
) -> None:
    """Keep what things on pictures look like. Begun again, it goes on where it was interrupted."""
    if everything and box is not None:
        raise click.UsageError("give --box or --everything, not both")
    if not photos and listed is None and not others:
        raise click.UsageError("no pictures: give PHOTO_OR_DIR..., --list or --from")
    knobs = knobs_of(options)
    if others:
        _take_over(others, db)
    from tracker.offline.index import Item

    items = [Item(photo, _four(box)) for photo in _pictures(photos)]
    items += _listed(listed) if listed is not None else []
    if everything and any(item.box is not None for item in items):
        raise click.UsageError(f"give --everything, or the boxes of {listed}, not both")
    if items:
        _index(items, db, knobs if everything else None, ModelOptions.take(options))


def _index(items: "Sequence[Item]", db: Path, knobs: SegmentAll | None, model: ModelOptions) -> None:
    """Raises SourceError where some could not be indexed; the others are."""
    from tracker.offline.index import opened

    reasons, added = [], 0
    with opened(db, model.load()) as pictures, progress_bar() as bar:
        for item in bar.track(items, description="pictures"):
            try:
                if not pictures.has(item, knobs is not None):
                    pictures.add(item, knobs)
                    added += 1
            except (SourceError, BadPrompt) as error:
                reasons.append(error.message if isinstance(error, SourceError) else f"{item.path}: {error.message}")
    if reasons and len(items) == 1:
        raise SourceError(reasons[0])
    for reason in reasons:
        show.say(reason)
    there = len(items) - len(reasons) - added
    show.line(f"{counted(added, 'picture')} indexed, {there} there already; written: {db}")
    if reasons:
        raise SourceError(f"{len(reasons)} of {len(items)} pictures could not be indexed")


def _pictures(photos: Sequence[str]) -> Iterator[str]:
    """Each of them, and of a folder its pictures. Raises SourceError for a folder without any."""
    from tracker.offline.images import find_pictures

    for photo in photos:
        path = Path(photo)
        yield from map(str, find_pictures([path])) if path.is_dir() else [photo]


def _take_over(others: Sequence[Path], db: Path) -> None:
    """Raises SourceError for what is no index."""
    from tracker.offline.index import take_over

    files = [file for other in others for file in (sorted(other.rglob("*.db")) if other.is_dir() else [other])]
    if db.resolve() in [file.resolve() for file in files]:
        raise SourceError(f"--from: {db} is the index itself")
    number = take_over(db, files)
    show.say(f"{number} pictures out of {len(files)} indexes")


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
        rows = [(f"{h['score']:.4f}", _text(h["box"]), h["path"]) for h in hits]
        show.print_table(("score", "box", "path"), rows, remark=True)
    if left_out:
        show.say(f"{left_out} looks are of another model, and were not compared")


def _listed(path: Path) -> Iterator["Item"]:
    """Raises SourceError for a line that is not as it should be."""
    from tracker.offline.index import Item

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: {why_unreadable(error)}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=Item)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f'{path}: line {number} is not {{"path": …, "box": [x1, y1, x2, y2]}}: {error}'
            ) from None


def _four(box: tuple[float, ...] | None) -> Any:
    return None if box is None else tuple(box)


def _text(box: Any) -> str:
    return ",".join(map(str, box))
