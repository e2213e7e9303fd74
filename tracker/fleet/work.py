"""Jobs over files as records: what people may ask, and what is kept of it in NATS, where anybody may have written.

Names become folders and keys, so one that does not fit makes the whole record one that is not ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from tracker.errors import BadRequest
from tracker.fleet.records import Name, UnixSeconds
from tracker.protocol.fields import MAX_PROMPT_POINTS

MAX_FILES = 100_000  # of one job
MAX_PATH_CHARS = 4096
MAX_ERROR_CHARS = 2000

JOB = "[0-9]{8}-[0-9]{6}-[0-9a-f]{6}"  # when it was submitted, and a part by chance
JOB_NAME = rf"^{JOB}\Z"
ABSOLUTE = r"^/[^\x00]*\Z"
PART = r"(?!\.{1,2}(?:/|\Z))[^/\x00]{1,255}"  # of a path: neither "." nor ".."
INSIDE = rf"^{PART}(?:/{PART})*\Z"  # of a folder

JobName = Annotated[str, Meta(pattern=JOB_NAME)]
FilePath = Annotated[str, Meta(pattern=ABSOLUTE, max_length=MAX_PATH_CHARS)]
ResultName = Annotated[str, Meta(pattern=INSIDE, max_length=MAX_PATH_CHARS)]
FileNumber = Annotated[int, Meta(ge=0, lt=MAX_FILES)]
FileCount = Annotated[int, Meta(ge=0, le=MAX_FILES)]

Kind = Literal["track", "segment", "index"]
Want = Literal["masks", "coco", "overlays", "jsonl", "looks"]
WANTS: dict[Kind, tuple[Want, ...]] = {
    "segment": ("coco", "masks", "overlays"),
    "track": ("jsonl", "coco", "masks", "overlays"),
    "index": ("looks",),
}
Number = Annotated[float, Meta(ge=-1e6, le=1e6)]
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Point = Annotated[list[NotNegative], Meta(min_length=2, max_length=3)]  # x, y, and 0 where the object is not
OFF, ON = 0, 1  # the object

R = TypeVar("R")


class Work(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done with each file; what marks an object is as on the command line."""

    kind: Kind
    want: Annotated[list[Want], Meta(max_length=16)]
    points: Annotated[list[Point], Meta(max_length=MAX_PROMPT_POINTS)] = []
    box: tuple[Number, Number, Number, Number] | None = None
    everything: bool = False
    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.+-]{1,64}\Z")] = "nano"
    image_size: Annotated[int, Meta(ge=64, le=2048, multiple_of=32)] | None = None


class FileTask(Struct, frozen=True, kw_only=True):
    """One message of the work queue."""

    job: JobName
    number: FileNumber
    path: FilePath
    work: Work

    @property
    def name(self) -> str:
        """Of the folder that its results are in."""
        return f"{self.number:06d}-{Path(self.path).stem}"


class Job(Struct, frozen=True, kw_only=True):
    job: JobName
    time: UnixSeconds
    work: Work
    files: FileCount


class FileDone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that no box will look at again."""

    path: FilePath
    box: Name
    seconds: UnixSeconds
    tries: Annotated[int, Meta(ge=0, le=2**53)]
    results: list[ResultName] = []
    error: Annotated[str, Meta(max_length=MAX_ERROR_CHARS)] | None = None


def read(data: bytes | None, kind: type[R]) -> R:
    """A record out of NATS. Raises ValueError, which says why it is none."""
    try:
        return msgspec.json.decode(data or b"", type=kind)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def check_work(work: Work) -> None:
    """Raises BadRequest for what no box could do."""
    unknown = [want for want in work.want if want not in WANTS[work.kind]]
    if unknown or not work.want:
        raise BadRequest(
            f"want: {', '.join(unknown) or 'nothing'}; {work.kind} gives {', '.join(WANTS[work.kind])}"
        )
    if work.kind == "index" and (work.points or (work.box and work.everything)):
        raise BadRequest("index what a box is around, or everything, or all of each picture; points are not taken")
    if work.kind != "index" and bool(work.points or work.box) == work.everything:
        raise BadRequest("mark an object with points or a box, or say everything")
    _check_marks(work)


def _check_marks(work: Work) -> None:
    """As far as it can be known without the picture."""
    labels = [point[2] if len(point) == 3 else ON for point in work.points]
    for point, label in zip(work.points, labels, strict=True):
        if label not in (OFF, ON):
            raise BadRequest(f"point: {point}: its label is neither 1 (on the object) nor 0 (off it)")
    if labels and ON not in labels and work.box is None:
        raise BadRequest("point: all are off the object (0); give one on it (1), or a box around it")
    if work.box is not None:
        x1, y1, x2, y2 = work.box
        if not (x1 < x2 and y1 < y2):
            raise BadRequest(f"box: {list(work.box)} is not x1, y1, x2, y2 with x1 < x2 and y1 < y2")


def check_paths(paths: Sequence[Path]) -> None:
    """Raises BadRequest where a file's name cannot be told to a box."""
    for path in paths:
        text = str(path)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadRequest(f"{text}: its name is not text in UTF-8; give it another one") from None
        if not path.is_absolute():
            raise BadRequest(f"{text}: is not an absolute path, and boxes are in other folders")
        if len(text) > MAX_PATH_CHARS:
            raise BadRequest(f"{text[:60]}...: its path has more than {MAX_PATH_CHARS} characters")
