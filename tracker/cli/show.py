"""Records as tables and lines for people, and as JSON for programs."""

import base64
import itertools
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click
import msgspec
from msgspec import UNSET, Struct

from tracker.cli import table
from tracker.client.messages import Message
from tracker.config.wording import printable, visible
from tracker.protocol.look_replies import SimilarFound, WatchRecord
from tracker.protocol.messages import Event, FrameMessage, Tracks
from tracker.protocol.records import ObjectRecord, StreamRecord
from tracker.protocol.replies import EventList, ObjectEntry, ObjectList, ServerInfo, ZoneRecord


def as_json(record: Struct | dict[str, Any]) -> str:
    """One line. Bytes become text: run lengths as COCO's own JSON has them, anything else in base64."""
    text = json.dumps(msgspec.to_builtins(record, builtin_types=(bytes,)), default=_text, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_visible_in_json, text))


def result(answered: Struct, wants_json: bool, tell: Callable[[Any], None]) -> None:
    """What the daemon answered, for programs or for people."""
    if wants_json:
        line(as_json(answered))
    else:
        tell(answered)


def _visible_in_json(character: str) -> str:
    if visible(character) == character:
        return character
    escaped = json.dumps(character)[1:-1]
    return escaped if len(escaped) > 1 else f"\\u{ord(character):04x}"


def _text(value: bytes) -> str:
    return value.decode() if value.isascii() else base64.b64encode(value).decode()


def info_table(info: ServerInfo) -> None:
    rows = [("daemon", f"{info.name} {info.version}, protocol {info.protocol}, pid {info.pid}")]
    rows += [("up", f"{info.uptime_s:.0f} s"), ("publishes at", info.publish)]
    model = info.model
    rows += [("model", f"{model.name}, {model.image_size} px, {model.dtype} on {model.device}")]
    rows += [("objects", f"{info.limits.objects - info.limits.objects_free} of {info.limits.objects}")]
    rows += [(name, note) for name, note in info.notes.items()]
    print_table(("", ""), rows, remark=True)


def stream_table(streams: Iterable[StreamRecord]) -> None:
    columns = ("stream", "state", "size", "fps", "frame", "step", "dropped", "objects", "buffer", "url", "error")
    least = ("step", "buffer", "frame", "size", "dropped", "fps")
    print_table(columns, map(_stream_row, streams), least=least, remark=True)


def _stream_row(s: StreamRecord) -> tuple[Any, ...]:
    buffer = f"{s.buffer.seconds:.1f} s, {s.buffer.bytes / 2**20:.0f} MiB"
    counts = (s.frame, s.step, s.dropped, s.objects)
    error = s.error and s.error.removeprefix(f"{s.url}: ")
    return (s.stream, s.state, _size(s.size), _number(s.fps), *counts, buffer, s.url, error)


def object_table(entries: Iterable[ObjectEntry]) -> None:
    columns = ("stream", "object", "state", "score", "box", "area", "age", "label", "frame")
    rows = [
        (e.stream, e.object, _state(e), _number(e.score, 2), _box(e), e.area, e.age, _label(e), e.frame)
        for e in entries
    ]
    print_table(columns, rows, least=("frame", "age", "area", "score", "box"))


def object_list(result: ObjectList) -> None:
    object_table(result.objects)
    if result.waiting:
        say("kept, and waiting for a stream or a memory:")
        rows = [(o.stream, o.object, o.label, o.frame) for o in result.waiting]
        print_table(("stream", "object", "label", "frame"), rows)


def hit_table(found: SimilarFound) -> None:
    rows = [
        (
            f"{hit.score:.3f}",
            hit.stream,
            hit.object,
            hit.label,
            _when(hit.time),
            hit.frame,
            ",".join(map(str, hit.box)),
        )
        for hit in found.hits
    ]
    print_table(("score", "stream", "object", "label", "when", "frame", "box"), rows, least=("frame", "box"))
    if found.left_out:
        say(f"{found.left_out} looks are of another model, and were not compared")


def watch_table(watched: Iterable[WatchRecord]) -> None:
    rows = [(w.watch, w.name, w.threshold, _when(w.time)) for w in watched]
    print_table(("number", "name", "threshold", "since"), rows)


def _when(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def zone_table(zones: Iterable[ZoneRecord]) -> None:
    columns = ("stream", "zone", "what", "counts", "inside", "who", "vertices")
    print_table(columns, map(_zone_row, zones), least=("vertices", "what"))


def _zone_row(zone: ZoneRecord) -> tuple[Any, ...]:
    settings, counts = zone.settings, zone.counts
    named = {"entered": counts.entered, "left": counts.left}
    if settings.line is not None:
        named = {"to the left": counts.to_left, "to the right": counts.to_right}
    numbers = ", ".join(f"{count} {name}" for name, count in named.items())
    inside = "" if counts.inside is UNSET else " ".join(map(str, counts.inside))
    vertices = ",".join(f"{x:g},{y:g}" for x, y in settings.vertices)
    what = "line" if settings.line is not None else "polygon"
    who = "all" if settings.labels is None else ", ".join(settings.labels)
    return zone.stream, zone.zone, what, numbers, inside, who, f"{vertices} {settings.unit}"


def event_lines(result: EventList) -> None:
    for event in result.events:
        line(f"{_when(event.time)}  {event_text(event)}")


def event_text(event: Event) -> str:
    fields = (event.zone, event.object, event.label, event.direction, event.message)
    what = [event.event, *(str(value) for value in fields if value is not UNSET and value)]
    if event.dwell_s is not UNSET:
        what.append(f"{event.dwell_s:.1f} s")
    return f"{event.stream}{_at(event.frame)}  {' '.join(what)}"


def message_line(message: Message) -> str:
    """A published message as one line for people."""
    body = message.body
    if isinstance(body, Tracks):
        return f"{body.stream} #{body.frame}  " + "  ".join(map(_object, body.objects))
    if isinstance(body, Event):
        return event_text(body)
    if isinstance(body, FrameMessage):
        return f"{body.stream} #{body.frame}  {body.format}, {len(message.image or b'')} bytes"
    return "  ".join(f"{s.stream} {s.state}{_at(s.frame)} dropped {s.dropped}" for s in body.streams)


def _at(frame: int | None) -> str:
    return "" if frame is None else f" #{frame}"


def _object(record: ObjectRecord) -> str:
    label = f" {_label(record)}" if _label(record) else ""
    return f"{record.object}{label} {_state(record)} {_box(record)} {_number(record.score, 2)}".rstrip()


def _label(record: ObjectRecord) -> str | None:
    """The client's own; else what CLIP takes it for, with a question mark."""
    if record.label is not None or record.guess is UNSET or record.guess.label is None:
        return record.label
    return f"{record.guess.label}?"


def _state(record: ObjectRecord) -> str:
    return record.state if record.behind is UNSET else f"{record.state}, {record.behind} behind"


def _box(record: ObjectRecord) -> str:
    return "" if record.box is None else ",".join(map(str, record.box))


def _size(size: tuple[int, int] | None) -> str:
    return "" if size is None else f"{size[0]}×{size[1]}"


def _number(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def print_table(
    columns: Sequence[str], rows: Iterable[Iterable[Any]], *, least: Sequence[str] = (), remark: bool = False
) -> None:
    """Columns side by side. A terminal's width says what gives way, by `table.fitted`; a pipe gets everything.

    rich would take as long to import as the whole rest of `trackctl ls`.
    """
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    lines = table.fitted(columns, cells, width, least, remark)
    for text in lines if any(columns) else itertools.islice(lines, 1, None):
        _print(text)


def line(text: str) -> None:
    """To standard output."""
    _print(printable(text))


def data(content: bytes) -> None:
    """Bytes to standard output."""
    _print(content)


def _print(content: str | bytes) -> None:
    """Raises OSError, which names standard output: a full disk says only that it is full."""
    try:
        click.echo(content, nl=isinstance(content, str))
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def say(text: str) -> None:
    """To people, beside what the command prints for programs."""
    click.echo(printable(text), err=True)
