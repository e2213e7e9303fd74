"""Tables that are readable in the terminal at hand."""

import math
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence

GAP = "  "
MIN_REMARK = 24  # a remark narrower than that is read better below its row
MIN_CELL = 24  # a longer cell is cut before a column goes
INDENT = 4

_Column = list[str]  # its heading, then its cells


def fitted(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: float, least: Sequence[str], remark: bool
) -> Iterator[str]:
    """The lines of a table that is at most `width` wide.

    Where it would be wider, columns go that are empty, then those of `least`, in that order; cells are shortened,
    the longest first. The last column of one with `remark` is text: it is wrapped, beside its row or below it.
    """
    columns = [list(column) for column in zip(headings, *rows, strict=True)]
    if _width(columns) > width:
        columns = [column for column in columns if any(column[1:])]
    remarks: _Column = [""] * (len(rows) + 1)
    if remark and _width(columns) > width and any(row[-1] for row in rows):
        remarks = columns.pop()
    columns = _shortened(_without(columns, least, width), width)
    beside = int(_width(columns))
    if width - beside < MIN_REMARK + len(GAP):
        remarks[0], beside = "", 0
    for line, text in zip(_lines(columns), remarks, strict=True):
        yield from _with_remark(line, text, beside, width)


def _without(columns: list[_Column], least: Sequence[str], width: float) -> list[_Column]:
    for heading in least:
        if _width(columns, MIN_CELL) > width:
            columns = [column for column in columns if column[0] != heading]
    return columns


def _shortened(columns: list[_Column], width: float) -> list[_Column]:
    """With all cells cut to the same length, where they are longer: the longest that fits."""
    longest = max(map(_column_width, columns), default=1)
    most = next((most for most in range(longest, 1, -1) if _width(columns, most) <= width), 1)
    return [[_cut(cell, most) for cell in column] for column in columns]


def _cut(cell: str, most: int) -> str:
    if columns_of(cell) <= most:
        return cell
    while cell and columns_of(cell) >= most:
        cell = cell[:-1]
    return f"{cell}…"


def _lines(columns: list[_Column]) -> Iterator[str]:
    widths = [_column_width(column) for column in columns]
    for cells in zip(*columns, strict=True):
        padded = (cell + " " * (width - columns_of(cell)) for cell, width in zip(cells, widths, strict=True))
        yield GAP.join(padded).rstrip()


def _with_remark(line: str, remark: str, beside: int, width: float) -> Iterator[str]:
    """A row and its remark: `beside` all rows, or below its own where that is 0."""
    indent = beside + len(GAP) if beside else INDENT
    texts = textwrap.wrap(remark, max(int(width) - indent, MIN_REMARK), break_on_hyphens=False) if remark else []
    if beside and texts:
        line = f"{line}{' ' * (indent - columns_of(line))}{texts.pop(0)}"
    yield line
    for text in texts:
        yield f"{' ' * indent}{text}"


def _width(columns: list[_Column], most: float = math.inf) -> float:
    """Of a table whose cells are cut to `most`."""
    return sum(min(_column_width(column), most) for column in columns) + len(GAP) * (len(columns) - 1)


def _column_width(column: _Column) -> int:
    return max(map(columns_of, column))


def columns_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))
