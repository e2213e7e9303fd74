"""What commands write: formats by name and by a file's ending, nothing written over unasked, and the last line."""

import errno
import hashlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click

from tracker.cli import show
from tracker.config.wording import counted, printable
from tracker.errors import SourceError

P = ParamSpec("P")

DEFAULT_FPS = 25.0

# What the files of a format end in; "" is a folder. Tested to be those of `tracker.exports.WRITERS`, which is not
# imported here because that takes PIL and OpenCV.
FORMATS = {"coco": ".json", "coco-polygons": ".json", "cvat": ".xml", "davis": "", "jsonl": ".jsonl", "mot": ".txt"}
_BY_ENDING = {ending: name for name, ending in reversed(FORMATS.items())}

OVERWRITE = click.option("--overwrite", is_flag=True, help="Write over files that are there already.")
OUT_FOLDER = click.Path(file_okay=False, path_type=Path)
EXPORT_RULE = f"the ending tells the format (none: a folder, for DAVIS), or FORMAT does: {', '.join(FORMATS)}."
EXPORT_HELP = f"A file: {EXPORT_RULE}"


class OutFile(click.Path):
    """A file to write, in the format that its ending says."""

    def __init__(self, *endings: str, dash: bool = False) -> None:
        super().__init__(dir_okay=False, allow_dash=dash, path_type=Path)
        self._endings = endings
        self._dash = dash

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path: Any = super().convert(value, param, ctx)
        if self._dash and str(path) == "-":
            return path
        if Path(path).suffix.lower() not in self._endings:
            self.fail(f"{str(value)!r} does not end in {' or '.join(self._endings)}", param, ctx)
        return path


class Export(click.ParamType[tuple[str, Path]]):
    """`PATH`, or `FORMAT=PATH`."""

    name = "[FORMAT=]PATH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Path]:
        text = str(value)
        name, equals, path_text = text.partition("=")
        path = Path(path_text if equals else text)
        ending = path.suffix.lower()
        if not equals:
            name = _BY_ENDING.get(ending, "")
        if name not in FORMATS or not path.name:
            self.fail(f"{text!r} is no format's; {EXPORT_RULE}", param, ctx)
        if ending != FORMATS[name]:
            wanted = f"end in {FORMATS[name]}" if FORMATS[name] else "be a folder, without an ending"
            self.fail(f"{text!r}: what {name} writes has to {wanted}", param, ctx)
        return name, path


def check_paths(paths: Sequence[Path], *, inputs: Sequence[Path] = (), overwrite: bool | None = None) -> None:
    """Refuse to write over anything, to write twice to one place, and to write where no folder is.

    `overwrite` is what --overwrite says, None for a command that has none. What is read is never written over, and
    nothing is written into a folder whose pictures are read: their names are those of what is written.
    """
    _refuse_inputs(paths, inputs)
    places = [path.resolve() for path in paths]
    for path, place in zip(paths, places, strict=True):
        if not overwrite and (any(path.iterdir()) if path.is_dir() else path.exists()):
            remedy = "" if overwrite is None else ", or give --overwrite"
            raise click.UsageError(printable(f"{path} is there already: remove it, or choose another name{remedy}"))
        if places.count(place) > 1:
            raise click.UsageError(printable(f"{path} is given twice"))
        if not path.parent.is_dir():
            raise click.UsageError(printable(f"{path}: there is no folder {path.parent}"))
    for path, place in zip(paths, places, strict=True):
        _claim(path, place)


def _claim(path: Path, place: Path) -> None:
    """Keep other commands from a place until this one ends: a model is loaded between this look and the first byte.

    The claim is the name of a Linux socket that is in no folder and goes with the process, however that ends.
    """
    if sys.platform != "linux":
        return
    claim = socket.socket(socket.AF_UNIX)
    click.get_current_context().call_on_close(claim.close)
    try:
        claim.bind(f"\0tracker output {hashlib.sha256(os.fsencode(place)).hexdigest()}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        told = f"{path} is being written by another command: wait for it, or choose another name"
        raise click.UsageError(printable(told)) from None


def _refuse_inputs(paths: Sequence[Path], inputs: Sequence[Path]) -> None:
    for source in inputs:
        files = list(source.iterdir()) if source.is_dir() else []
        _refuse_these(paths, [source, *files])


def _refuse_these(paths: Sequence[Path], sources: Sequence[Path]) -> None:
    for path in paths:
        for source in sources:
            if path.exists() and source.exists() and path.samefile(source):
                raise click.UsageError(printable(f"{path} is what is read: choose another name"))
            if path.is_dir() and source.is_file() and path.samefile(source.parent):
                raise click.UsageError(
                    printable(f"{path} is the folder of {source}, which is read: choose another one")
                )


def write_whole(path: Path, data: bytes) -> None:
    """The whole file, or none: half of one is in the way of the next try. Raises OSError, which names it."""
    file = path.open("wb")  # what cannot be opened is somebody's, and stays
    try:
        with file:
            file.write(data)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None


def naming(path: Path, act: Callable[P, None]) -> Callable[P, None]:
    """`act`, which writes to `path`: its errors say so. A full disk says only that it is full."""

    def named(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            act(*args, **kwargs)
        except OSError as error:
            if error.filename is not None:
                raise
            raise OSError(error.errno, f"{error.strerror}; what is there may be cut off", str(path)) from error

    return named


@contextmanager
def closing_named(path: Path, close: Callable[[], None]) -> Iterator[None]:
    """`close`, which writes to `path`, at the end. What others failed at before is in its error's context, which a
    callback of an ExitStack loses."""
    try:
        yield
    finally:
        naming(path, close)()


@contextmanager
def saying_what_is_whole(paths: Sequence[Path]) -> Iterator[None]:
    """Where an output cannot be written, say which others can be used: they end with the frame before."""
    try:
        yield
    except (OSError, SourceError) as error:
        failures = [str(failure) for failure in _chain(error)]
        begun = [str(path) for path in paths if path.exists()]
        whole = [path for path in begun if not any(path in failure for failure in failures)]
        if whole:
            show.say(f"whole as far as it went: {', '.join(whole)}")
        raise


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and the end of the terminal end the work as Ctrl-C does: files are closed, temporary folders go. One
    more of them does not disturb that."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, _: object) -> NoReturn:
        for other in numbers:
            signal.signal(other, signal.SIG_IGN)
        sys.exit(128 + number)  # as a shell counts it

    for number in numbers:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those during which it came: more than one output may fail on a full disk."""
    while error is not None:
        yield error
        error = error.__context__


def say_done(frames: str, seconds: float, rate: float, paths: Sequence[Path], *more: str) -> None:
    """The line with which a command ends: how much in what time, where it is, and what else there is to say."""
    parts = [f"{frames} in {seconds:.1f} s, {rate:.{'1f' if rate >= 1 else '2g'}} a second", *more]
    show.line(f"{'; '.join(parts)}; written: {', '.join(map(str, paths))}")


def objects_text(objects: Sequence[int], lost: Sequence[int]) -> str:
    """How many objects there were, and which were lost in the end."""
    if not lost:
        return f"{counted(len(objects), 'object')}, none lost in the end"
    return f"{counted(len(objects), 'object')}, lost in the end: {', '.join(map(str, lost))}"
