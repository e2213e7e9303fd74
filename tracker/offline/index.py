"""Looks of things on pictures, in a file that can be searched; what was indexed once is not looked at again."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import apsw
import numpy as np
from msgspec import Struct, structs

from tracker.engine.engine import Engine
from tracker.errors import SourceError
from tracker.images import looks
from tracker.images.stills import read_still
from tracker.images.types import Rgb
from tracker.masks.enlargement import bounds_of
from tracker.masks.types import U8, Bool
from tracker.offline.images import segment_everything, segment_prompted
from tracker.protocol.prompts import box_of
from tracker.protocol.requests import Prompted, SegmentAll
from tracker.registry.similar import Look, LookHit, LookQuery, Looks, model_key

KIND = "appearance"
APPLICATION_ID = 0x74726B69  # "trki"

Box = tuple[float, float, float, float]

BUSY_MS = 30_000
"""How long another process that writes to the same file is waited for."""

_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE IF NOT EXISTS indexed (path TEXT, what TEXT, PRIMARY KEY (path, what)) WITHOUT ROWID;
"""


class Item(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be indexed of a picture: what a box is around, or all of it."""

    path: str
    box: Box | None = None


class PictureIndex:
    """Only vectors of one model are compared."""

    def __init__(self, connection: apsw.Connection, engine: Engine) -> None:
        self._connection = connection
        self._looks = Looks(connection)
        self._engine = engine
        self._model = model_key(engine.describe())

    def has(self, item: Item, everything: bool) -> bool:
        """Whether it was indexed like this. Raises SourceError for a name that the file cannot hold."""
        _check_name(item.path)
        sql = "SELECT 1 FROM indexed WHERE path = ? AND what = ?"
        return bool(list(self._connection.execute(sql, (item.path, self._what(item, everything)))))

    def add(self, item: Item, knobs: SegmentAll | None) -> int:
        """Index a picture wholly or not at all; returns how many looks it gave. With `knobs` everything that is
        found on it. Raises SourceError, BadPrompt."""
        _check_name(item.path)
        rgb_hwc = read_still(Path(item.path))
        features = self._engine.encode([Rgb(rgb_hwc)])
        found = []
        for box, mask_hw in _masks(self._engine, rgb_hwc, item, knobs):
            pooled_c = self._engine.look(features, 0, mask_hw)
            vector_c = looks.appearance(pooled_c, looks.colours(rgb_hwc, mask_hw))
            key = KIND, self._model, "", 0, 0, 0, 0.0
            found.append(Look(*key, box, item.path, looks.thumbnail(rgb_hwc, box), vector_c.tobytes()))
        with self._connection:
            _put(self._looks, self._connection, found)
            row = item.path, self._what(item, knobs is not None)
            self._connection.execute("INSERT OR REPLACE INTO indexed VALUES (?, ?)", row)
        return len(found)

    def find(self, item: Item, limit: int) -> list[LookHit]:
        """What looks like a thing on a picture, best first. Raises SourceError, BadPrompt."""
        rgb_hwc = read_still(Path(item.path))
        features = self._engine.encode([Rgb(rgb_hwc)])
        ((_, mask_hw),) = _masks(self._engine, rgb_hwc, item, None)
        vector_c = looks.appearance(self._engine.look(features, 0, mask_hw), looks.colours(rgb_hwc, mask_hw))
        query = LookQuery(KIND, self._model, [vector_c.tobytes()], limit, most_of_one=1)
        return self._looks.find(query)

    def left_out(self) -> int:
        return self._looks.left_out(KIND, self._model)

    def _what(self, item: Item, everything: bool) -> str:
        what = "everything" if everything else "whole" if item.box is None else ",".join(map(str, item.box))
        return f"{self._model} {what}"


def _check_name(path: str) -> None:
    """Raises SourceError for a file name that is no text: what is found again is told by its name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{path}: its name is not UTF-8, and cannot be indexed: rename it") from None


@contextmanager
def opened(path: Path, engine: Engine) -> Iterator[PictureIndex]:
    """The index in a file, made where there is none. Raises SourceError for a file that is none."""
    with _opened(path) as connection:
        yield PictureIndex(connection, engine)


def take_over(path: Path, others: Sequence[Path]) -> int:
    """Looks that other indexes have, of any model, of pictures that are not here yet. Returns of how many.

    Raises SourceError for a file that is no index.
    """
    number = 0
    with _opened(path) as connection:
        for other in others:
            with _opened(other, to_read=True) as theirs:
                number += _take_over(connection, theirs)
    return number


def _take_over(connection: apsw.Connection, theirs: apsw.Connection) -> int:
    here = {(path, _model_in(what)) for path, what in _indexed(connection)}
    new = [(path, what) for path, what in _indexed(theirs) if (path, _model_in(what)) not in here]
    pictures = {(path, _model_in(what)) for path, what in new}
    looks = _all_looks(theirs, Looks(theirs, read_only=True))
    found = [look for look in looks if (look.label, look.model) in pictures]
    with connection:
        _put(Looks(connection), connection, found)
        connection.executemany("INSERT OR REPLACE INTO indexed VALUES (?, ?)", new)
    return len(pictures)


def _put(ours: Looks, connection: apsw.Connection, found: Sequence[Look]) -> None:
    """Looks of any numbers, each as an object of its own."""
    (first,) = next(connection.execute("SELECT coalesce(max(object), 0) FROM looks"))
    for number, look in enumerate(found, first + 1):
        ours.put(structs.replace(look, object=number))


def _all_looks(connection: apsw.Connection, looks: Looks) -> Iterator[Look]:
    """With their vectors."""
    for model, number in list(connection.execute("SELECT DISTINCT model, object FROM looks")):
        yield from looks.of_object(KIND, model, "", number)


def _indexed(connection: apsw.Connection) -> list[tuple[str, str]]:
    return [(str(path), str(what)) for path, what in connection.execute("SELECT path, what FROM indexed")]


def _model_in(what: str) -> str:
    return what.partition(" ")[0]


@contextmanager
def _opened(path: Path, *, to_read: bool = False) -> Iterator[apsw.Connection]:
    """Nothing is written to a file before it is known to be an index, or empty, and nothing at all `to_read`."""
    flags = apsw.SQLITE_OPEN_READONLY if to_read else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    try:
        with closing(apsw.Connection(str(path), flags=flags)) as connection:
            connection.set_busy_timeout(BUSY_MS)
            connection.transaction_mode = "IMMEDIATE"  # one that reads first may not write once another has
            tables, found = _about(connection)
            if found != APPLICATION_ID and (tables or to_read):
                raise SourceError(f"{path}: is a database of something else; name a file of `trackerd index`")
            if not tables:
                connection.pragma("journal_mode", "wal")
                connection.execute(_SCHEMA)
            yield connection
    except apsw.BusyError:
        raise SourceError(f"{path}: another program has been writing to it for {BUSY_MS // 1000} s") from None
    except apsw.NotADBError:
        raise SourceError(f"{path}: is no index of pictures; name a file of `trackerd index`") from None
    except (apsw.CorruptError, apsw.CantOpenError, apsw.FullError, apsw.IOError, apsw.ReadOnlyError) as error:
        raise SourceError(f"{path}: {error}") from None


def _about(connection: apsw.Connection) -> tuple[int, int]:
    """How many tables there are, and whose."""
    ((tables,),) = connection.execute("SELECT count(*) FROM sqlite_schema")
    ((application_id,),) = connection.execute("PRAGMA application_id")
    return tables, application_id


def _masks(
    engine: Engine, rgb_hwc: U8, item: Item, knobs: SegmentAll | None
) -> Iterator[tuple[tuple[int, int, int, int], Bool]]:
    """Boxes and masks of what is meant on a picture."""
    if knobs is not None:
        for found in segment_everything(engine, rgb_hwc, knobs):
            mask_hw = found.mask_hw
            if (bounds := bounds_of(mask_hw)) is not None:
                yield bounds, mask_hw
    elif item.box is None:
        height, width = rgb_hwc.shape[:2]
        yield (0, 0, width, height), np.ones((height, width), np.bool_)
    else:
        yield _boxed(engine, rgb_hwc, item.box)


def _boxed(engine: Engine, rgb_hwc: U8, box: Box) -> tuple[tuple[int, int, int, int], Bool]:
    """What a box is around; all of the box where the model finds nothing in it."""
    height, width = rgb_hwc.shape[:2]
    x1, y1, x2, y2 = map(int, box_of(box, (width, height)).round())
    bounds = x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)
    ((mask_hw, _),) = segment_prompted(engine, rgb_hwc, Prompted(box=box), multimask=False)
    if not mask_hw.any():
        mask_hw = np.zeros((height, width), np.bool_)
        mask_hw[bounds[1] : bounds[3], bounds[0] : bounds[2]] = True
    return bounds, mask_hw
