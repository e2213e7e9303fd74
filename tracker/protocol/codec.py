"""Bytes to typed requests, records to bytes. Whatever comes in, only a ParsedRequest or a Refusal comes out."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgpack
import msgspec
from msgspec import Struct

from tracker.config import PLAIN_TEXT
from tracker.config.wording import in_words, kind_in_words
from tracker.errors import BadPrompt, BadRequest, TooLarge, TrackerError, UnknownOp, UnsupportedVersion
from tracker.protocol.fields import (
    MAX_BYTES,
    MAX_ITEMS,
    MAX_KEY_CHARS,
    MAX_NESTING,
    MAX_PARTS,
    MAX_VALUES,
    VERSION,
)
from tracker.protocol.operations import OPERATIONS

T = TypeVar("T", bound=Struct)
_UNREADABLE = (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException)
_CONTAINERS_AND_SCALARS = (bool, int, str, bytes, type(None), dict, list)


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request that is right in itself: `args` is the struct that `OPERATIONS` names for `op`."""

    id: Any
    op: str
    args: Struct


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that is wrong; `id` is its own where it could be read, else nil."""

    id: Any
    error: TrackerError


class _Envelope(Struct, frozen=True, forbid_unknown_fields=True):
    op: str
    v: Any = VERSION
    id: Any = None
    args: dict[str, Any] = {}


def encode(record: Struct) -> bytes:
    return msgspec.msgpack.encode(record)


def parse_request(parts: Sequence[bytes], served: Collection[str]) -> ParsedRequest | Refusal:
    """Read one request, given as its parts without addresses; `served` are the operations known here."""
    request_id = None
    try:
        try:
            data = _unpack(parts)
        except BadRequest:
            request_id = _readable_id(parts)
            raise
        _check_values(data.get("id"), "id")
        request_id = data.get("id")
        _check_values(data, "")
        return _call(data, served)
    except TrackerError as error:
        return Refusal(request_id, error)


def _unpack(parts: Sequence[bytes]) -> dict[Any, Any]:
    """The map that a request is. Raises TooLarge and BadRequest."""
    count, nbytes = len(parts), sum(map(len, parts))
    if count > MAX_PARTS or nbytes > MAX_BYTES:
        limits = f"at most {MAX_PARTS} and {MAX_BYTES} are read"
        raise TooLarge(f"the request has {count} parts and {nbytes} bytes; {limits}")
    if count != 1:
        raise BadRequest(f"a request is one part, one msgpack map; this one has {count} parts")
    data = _unpacked(parts[0])
    if not isinstance(data, dict):
        raise BadRequest(f"a request is a msgpack map, not {kind_in_words(data)}")
    return data


def _unpacked(part: bytes) -> object:
    try:
        return msgpack.unpackb(part, max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    except _UNREADABLE as error:
        text = str(error)
        if "max_array_len" in text or "max_map_len" in text:
            raise TooLarge(f"an array or map holds more than {MAX_ITEMS} items") from None
        why = _why_not_msgpack(error)
        raise BadRequest(f"the request is not one msgpack map with string keys: {why}") from None


def _why_not_msgpack(error: Exception) -> str:
    """In words: msgpack's are those of its library."""
    text = str(error)
    if isinstance(error, UnicodeDecodeError):
        return "text that is not UTF-8"
    if isinstance(error, msgpack.ExtraData):
        return "something follows it"
    if "incomplete" in text:
        return "it ends too early"
    return "a key is no string" if "strict_map_key" in text else text


def _readable_id(parts: Sequence[bytes]) -> Any:
    """The id of a request that cannot be read whole, where it stands before what is wrong: whoever has several
    requests under way has to know which one was refused. None where there is none."""
    if len(parts) != 1:
        return None
    unpacker = msgpack.Unpacker(max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS, max_buffer_size=MAX_BYTES)
    unpacker.feed(parts[0])
    with suppress(*_UNREADABLE, TrackerError):
        for _ in range(unpacker.read_map_header()):
            if unpacker.unpack() == "id":
                request_id = unpacker.unpack()
                _check_values(request_id, "id")
                return request_id
            unpacker.skip()
    return None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands; written out only for an error, so that a check costs no more than its request."""

    parent: "_Place | None"
    key: str | int
    depth: int = 1

    def __str__(self) -> str:
        place: _Place | None = self
        keys: list[str] = []
        while place is not None:
            keys.append(f"[{place.key}]" if isinstance(place.key, int) else f".{place.key}")
            place = place.parent
        return "".join(reversed(keys)).lstrip(".")


def _check_values(root: object, name: str) -> None:
    """Refuse what msgpack can say and the protocol cannot: odd keys, extension types, NaN, bottomless nesting."""
    _check_scalar(root, None, name)
    pending = [(root, _Place(None, name))] if isinstance(root, dict | list) else []
    seen = 1
    while pending:
        container, place = pending.pop()
        seen += len(container)
        if place.depth > MAX_NESTING or seen > MAX_VALUES:
            raise TooLarge(f"{place}: more than {MAX_NESTING} levels or {MAX_VALUES} values in one request")
        for key, value in _items(container, place):
            if isinstance(value, dict | list):
                inner = _Place(place, key, place.depth + 1)
                pending.append((value, inner))
            else:
                _check_scalar(value, place, key)


def _items(container: dict[Any, Any] | list[Any], place: _Place) -> Iterable[tuple[Any, Any]]:
    """Keys or indices, and values. Raises what odd keys raise."""
    if isinstance(container, list):
        return enumerate(container)
    _check_keys(container, place)
    return container.items()


def _check_scalar(value: object, place: _Place | None, key: str | int) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            path = str(_Place(place, key))
            wrong = BadPrompt if re.match(r"args\.(points|box|detections)\b", path) else BadRequest
            raise wrong(f"{path}: {value} is not a finite number")
    elif not isinstance(value, _CONTAINERS_AND_SCALARS):
        raise BadRequest(f"{_Place(place, key)}: msgpack extension types have no meaning here")


def _check_keys(container: dict[Any, Any], place: _Place) -> None:
    for key in container:
        if not isinstance(key, str):
            raise BadRequest(f"{str(place) or 'the request'}: keys are strings, not {kind_in_words(key)}")
        if len(key) > MAX_KEY_CHARS:
            raise TooLarge(
                f"{str(place) or 'the request'}: a key of {len(key)} characters; at most {MAX_KEY_CHARS}"
            )


def _call(data: dict[str, Any], served: Collection[str]) -> ParsedRequest:
    data = {key: value for key, value in data.items() if value is not None}  # nil is as good as absent
    version = data.get("v", VERSION)
    if type(version) is not int or version != VERSION:
        raise UnsupportedVersion(f"v: {version!r} is not spoken here; this daemon speaks version {VERSION}")
    envelope = _convert(data, _Envelope, "")
    if envelope.op not in served:
        raise UnknownOp(f"op: {envelope.op!r} is unknown; {_suggest(envelope.op, served)}")
    args = _convert(envelope.args, OPERATIONS[envelope.op].args, "args")
    return ParsedRequest(envelope.id, envelope.op, args)


def _convert(data: dict[str, Any], type_: type[T], name: str) -> T:
    try:
        return msgspec.convert(data, type_, builtin_types=(bytes,))
    except msgspec.ValidationError as error:
        raise BadRequest(_explain(str(error), type_, name)) from None


def _explain(text: str, type_: type[Struct], name: str) -> str:
    """msgspec's text with the path first, and with what would be right where msgspec does not say it."""
    text, _, path = text.partition(" - at `$")
    path = path.rstrip("`")
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(type_)}
    what = _what(text, path, fields)
    where = f"{name}{path}".lstrip(".")
    return f"{where}: {what}" if where else what


def _what(text: str, path: str, fields: dict[str, Any]) -> str:
    """What is wrong with the value at `path`."""
    if PLAIN_TEXT in text or repr(PLAIN_TEXT)[1:-1] in text:
        return "control characters and marks of writing direction are not taken; plain text is"
    field = fields.get(path.strip("."))
    what = in_words(text, _choices(field))
    unknown = re.match("Object contains unknown field `(.*)`", text, re.DOTALL)
    if unknown and not path:
        what += f"; {_suggest(unknown[1], fields)}"
    return what


def _choices(type_: object) -> tuple[object, ...]:
    if get_origin(type_) is Literal:
        return get_args(type_)
    return tuple(choice for part in get_args(type_) for choice in _choices(part))


def _suggest(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name[:64], known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(sorted(known)) or 'nothing'}"
