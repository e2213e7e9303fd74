"""A configuration file read: its YAML becomes a `Config`, or everything that is wrong with it is said at once."""

import difflib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from tracker.config.sections import MAX_ZONES, STREAM_NAME, Config, StreamConfig, ZoneConfig, Zones
from tracker.config.wording import name_problem, place_and_words, why_unreadable
from tracker.errors import ConfigError

MAX_CHARS = 500  # of what is said of one problem; a list of all keys of a stream takes 300


def load(path: str | Path) -> Config:
    """Read a configuration file. Raises ConfigError with every problem found."""
    return parse(_text(path), str(path))


def sound_streams(path: str | Path) -> dict[str, StreamConfig]:
    """Those streams of a file that are right by themselves, whatever else is wrong in it, so that nothing hides
    what the machine lacks for them. Raises ConfigError where it cannot be read."""
    data = _data(_text(path), str(path))
    streams = data.get("streams") if isinstance(data, dict) else None
    if not isinstance(streams, dict):
        return {}
    sound = {name: stream for name, stream in streams.items() if not any(_stream_problems({name: stream}))}
    return msgspec.convert(sound, dict[str, StreamConfig])


def parse(text: str, origin: str = "config") -> Config:
    """Parse YAML text; `origin` names it in messages."""
    data = _data(text, origin)
    problems = [f"{origin}: {_brief(problem)}" for problem in _problems(data if data is not None else {})]
    if problems:
        raise ConfigError(problems)
    return msgspec.convert(data or {}, Config)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {why_unreadable(error)}"]) from None


def _data(text: str, origin: str) -> object:
    from tracker.config.yaml import load_yaml  # takes its time to import, and clients read no configuration

    try:
        return load_yaml(text)
    except ValueError as error:
        raise ConfigError([f"{origin}: {_brief(str(error))}"]) from None


def _brief(problem: str) -> str:
    """Without most of a value that is a book."""
    return problem if len(problem) <= MAX_CHARS else f"{problem[:MAX_CHARS]}…"


def _problems(data: object) -> Iterator[str]:
    """Every problem, section by section: msgspec stops at the first one of what it is given."""
    if not isinstance(data, dict):
        yield f"must be a map of sections, not {type(data).__name__}"
        return
    sections = {field.encode_name: field.type for field in msgspec.structs.fields(Config)}
    for key, value in data.items():
        if key not in sections:
            yield _unknown(str(key), sections)
        elif key == "streams":
            yield from _stream_problems(value)
        else:
            yield from struct_problems(key, value, sections[key])


def _stream_problems(streams: object) -> Iterator[str]:
    if not isinstance(streams, dict):
        yield "streams: must be a map of stream names to their settings"
        return
    for name, stream in streams.items():
        if (problem := name_problem(name, STREAM_NAME)) is not None:
            yield f"streams.{name}: a stream's name {problem}"
        yield from struct_problems(f"streams.{name}", stream, StreamConfig)


def struct_problems(path: str, data: object, type_: type[Struct]) -> Iterator[str]:
    """Everything that is wrong with a section; each begins with its key's path."""
    if not isinstance(data, dict):
        yield f"{path}: must be a map, not {'empty' if data is None else type(data).__name__}"
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    for key, value in data.items():
        if key not in fields:
            yield _unknown(f"{path}.{key}", fields)
        elif fields[key].type is Zones:
            yield from _zone_problems(f"{path}.{key}", value)
        elif (section := _section_of(fields[key].type)) is not None and value is not None:
            yield from struct_problems(f"{path}.{key}", value, section)
        else:
            yield from _value_problems(f"{path}.{key}", value, fields[key].type)
    for key, field in fields.items():
        if field.required and key not in data:
            yield f"{path}.{key}: is missing"


def _zone_problems(path: str, zones: object) -> Iterator[str]:
    if not isinstance(zones, dict):
        yield f"{path}: must be a map of zones' names to what they are"
        return
    if len(zones) > MAX_ZONES:
        yield f"{path}: {len(zones)} zones; at most {MAX_ZONES} of a stream"
    for name, zone in zones.items():
        place = f"{path}.{name}"
        if (problem := name_problem(name, STREAM_NAME)) is not None:
            yield f"{place}: a zone's name {problem}"
        problems = list(struct_problems(place, zone, ZoneConfig))
        yield from problems
        if not problems:
            yield from _whole_problems(place, zone)


def _whole_problems(path: str, zone: object) -> Iterator[str]:
    """What is wrong with a zone whose values are right one by one."""
    try:
        msgspec.convert(zone, ZoneConfig)
    except msgspec.ValidationError as error:
        place, words = place_and_words(error)
        yield f"{path}{place}: {words}"


def _section_of(type_: Any) -> type[Struct] | None:
    """The section that a field holds, or may hold; None for a plain value."""
    choices = get_args(type_) or (type_,)
    return next((choice for choice in choices if isinstance(choice, type) and issubclass(choice, Struct)), None)


def _value_problems(path: str, value: object, type_: object) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path}: must be a finite number"
        return
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        place, words = place_and_words(error, get_args(type_))
        told = "is not one of" in words  # by its value
        yield f"{path}{place}: {words}" + ("" if told else f" (found {_shown(value)})")


def _shown(value: object) -> str:
    """As YAML has it."""
    return json.dumps(value) if isinstance(value, bool | None) else repr(value)


def _unknown(path: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(path.rpartition(".")[2], list(known), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known))}"
    return f"{path}: unknown key; {hint}"
