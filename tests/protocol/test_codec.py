"""Requests from bytes: what is right comes out typed, what is wrong as one refusal that says what is right."""

import math
import tracemalloc
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracker.protocol import codec, fields, records, requests
from tracker.protocol.codec import ParsedRequest, Refusal, parse_request
from tracker.protocol.operations import OPERATIONS

SERVED = OPERATIONS


def parse(op: str = "objects.add", args: dict[str, Any] | None = None, **envelope: Any) -> ParsedRequest | Refusal:
    return parse_map({"v": 1, "id": 7, "op": op, "args": args or {}} | envelope)


def parse_map(data: dict[str, Any]) -> ParsedRequest | Refusal:
    return parse_request([msgpack.packb(data)], SERVED)


def refusal(outcome: ParsedRequest | Refusal) -> tuple[str, str]:
    assert isinstance(outcome, Refusal), outcome
    return outcome.error.code, outcome.error.message


MINIMAL_ARGS: dict[str, dict[str, Any]] = {
    "server.info": {},
    "streams.list": {},
    "streams.add": {"stream": "cam1", "url": "rtsp://cam1.local/live", "transport": "udp", "buffer": {"mib": 64}},
    "objects.export": {"stream": "cam1", "object": 7},
    "objects.import": {
        "stream": "cam1",
        "record": {
            "object": 7,
            "frame": 5,
            "size_wh": [64, 48],
            "label": None,
            "meta": {},
            "expire_s": None,
            "age": 3,
            "lost_for_s": None,
        },
        "size": 4,
        "data": b"data",
    },
    "streams.remove": {"stream": "cam1"},
    "streams.pause": {"stream": "cam1"},
    "streams.resume": {"stream": "cam1"},
    "frames.get": {"stream": "cam1"},
    "objects.add": {"stream": "cam1", "points": [[1, 2.5]]},
    "objects.add_many": {"stream": "cam1", "detections": [{"box": [1, 2, 3, 4], "score": 0.5}]},
    "objects.refine": {"stream": "cam1", "object": 3, "points": [[1, 2]], "labels": [0]},
    "objects.update": {"stream": "cam1", "object": 3, "label": None},
    "objects.remove": {"stream": "cam1", "all": True},
    "objects.list": {},
    "segment.prompt": {"stream": "cam1", "box": [1, 2, 3, 4], "ref": "r1"},
    "segment.all": {"stream": "cam1", "points_per_side": 16},
    "segment.cancel": {"id": "job"},
    "history.list": {"stream": "cam1", "limit": 5},
    "server.note": {"name": "backup", "message": "the disk is full"},
    "search.similar": {"stream": "cam1", "object": 7},
    "watch.add": {"stream": "cam1", "object": 7, "name": "the red van"},
    "objects.describe": {"stream": "cam1", "object": 1},
    "watch.list": {},
    "watch.remove": {"watch": 1},
    "zones.set": {"stream": "cam1", "zone": "door", "line": [[0, 1], [9, 1]]},
    "zones.remove": {"stream": "cam1", "zone": "door"},
    "zones.list": {"stream": "cam1"},
}


@pytest.mark.parametrize("op", OPERATIONS)
def test_every_operation_takes_its_arguments_and_refuses_others(op: str) -> None:
    call = parse(op, MINIMAL_ARGS[op])
    assert isinstance(call, ParsedRequest)
    assert (call.id, call.op, type(call.args)) == (7, op, OPERATIONS[op].args)
    code, message = refusal(parse(op, MINIMAL_ARGS[op] | {"colour": 1}))
    assert code == "bad_request"
    assert "args: unknown field 'colour'" in message


def test_version_id_and_args_may_be_absent() -> None:
    call = parse_request([msgpack.packb({"op": "server.info"})], SERVED)
    assert call == ParsedRequest(None, "server.info", requests.ServerInfoArgs())


def test_a_stream_added_is_a_stream_of_the_configuration() -> None:
    call = parse("streams.add", MINIMAL_ARGS["streams.add"])
    assert isinstance(call, ParsedRequest)
    assert isinstance(call.args, requests.StreamsAdd)
    config = call.args.config()
    assert (config.url, config.transport, config.buffer.mib) == ("rtsp://cam1.local/live", "udp", 64)


@pytest.mark.parametrize("id_", [None, 0, -1, 2**64 - 1, "é", b"\x00", 1.5, [1, {"a": [b"x"]}], {"a": None}])
def test_any_id_comes_back(id_: object) -> None:
    assert parse("streams.list", id=id_).id == id_
    assert parse("no.such", id=id_).id == id_


CAM = {"stream": "cam1"}
REFUSALS: list[tuple[str, dict[str, Any], str, str]] = [
    ("objects.add", {}, "bad_request", "args: stream is missing"),
    ("objects.add", {"stream": "Cam 1"}, "bad_request", "args.stream: must be text: 1 to 64 of a-z"),
    ("objects.add", {"stream": "cam1\n"}, "bad_request", "args.stream: must be text: 1 to 64"),
    ("objects.add", {"stream": b"cam1"}, "bad_request", "args.stream: must be text, not bytes"),
    ("objects.add", CAM | {"lable": "x"}, "bad_request", "unknown field 'lable'; did you mean 'label'?"),
    ("objects.add", CAM | {"frame": 1.5}, "bad_request", "args.frame: must be a whole number, not a fraction"),
    ("objects.add", CAM | {"frame": -1}, "bad_request", "args.frame: must be a whole number of at least 0"),
    (
        "objects.add",
        CAM | {"object": True},
        "bad_request",
        "args.object: must be a whole number, not true or false",
    ),
    ("objects.add", CAM | {"object": 0}, "bad_request", "args.object: must be a whole number of at least 1"),
    ("objects.add", CAM | {"frame": 1, "time": 2}, "bad_request", "frame and time exclude each other"),
    ("objects.add", CAM | {"points": [[1, 2, 3]]}, "bad_request", "args.points[0]: must be a list of 2 items"),
    ("objects.add", CAM | {"points": [["1", 2]]}, "bad_request", "args.points[0][0]: must be a number"),
    ("objects.add", CAM | {"points": [[1, math.nan]]}, "bad_prompt", "args.points[0][1]: nan is not a finite"),
    ("objects.add", CAM | {"box": [1, 2, math.inf, 4]}, "bad_prompt", "args.box[2]: inf is not a finite"),
    ("objects.add", CAM | {"time": math.nan}, "bad_request", "args.time: nan is not a finite number"),
    (
        "objects.add",
        CAM | {"mask": {"size": [2, 2], "counts": "04"}},
        "bad_request",
        "args.mask.counts: must be bytes",
    ),
    ("objects.add", CAM | {"meta": {"x": "y" * 5000}}, "too_large", "at most 4096"),
    ("objects.add", CAM | {"meta": {1: 2}}, "bad_request", "a key is no string"),
    ("objects.add", CAM | {"meta": {b"k": 2}}, "bad_request", "args.meta: keys are strings, not bytes"),
    ("objects.add", CAM | {"meta": {"x": msgpack.ExtType(5, b"")}}, "bad_request", "args.meta.x: msgpack ext"),
    ("objects.add", CAM | {"meta": {"x": msgpack.Timestamp(5)}}, "bad_request", "args.meta.x: msgpack ext"),
    ("objects.add", CAM | {"expire_s": 0}, "bad_request", "args.expire_s: must be a number above 0"),
    (
        "objects.add_many",
        CAM | {"detections": []},
        "bad_request",
        "args.detections: must be a list of at least 1 item",
    ),
    (
        "objects.add_many",
        CAM | {"detections": [{"box": [1, 2, 3, 4], "cls": 1}]},
        "bad_request",
        "args.detections[0]: unknown field 'cls'",
    ),
    *[
        ("objects.add", CAM | {"label": f"a{bad}b"}, "bad_request", "args.label: control characters and marks of")
        for bad in ("\n", "\x1b[31m", "\x00", "\x7f", "\x9b", "\u202e", "\u2066", "\u2028", "\ufeff")
    ],
    ("objects.remove", CAM, "bad_request", "give either object or all: true"),
    ("objects.remove", CAM | {"object": 1, "all": True}, "bad_request", "give either object or all: true"),
    ("objects.update", CAM | {"object": 1}, "bad_request", "nothing to update: give label, meta or expire_s"),
    ("objects.update", CAM | {"object": 1, "meta": None}, "bad_request", "args.meta: must be a map"),
    ("segment.prompt", CAM | {"ref": "a", "mask": {"size": [1, 1], "counts": b"1"}}, "bad_request", "exclude"),
    ("frames.get", CAM | {"format": "gif"}, "bad_request", "'gif' is not one of: jpeg, png"),
    ("streams.add", CAM | {"url": 5}, "bad_request", "args.url: must be text, not a whole number"),
    (
        "streams.add",
        CAM | {"url": "x", "size": [0, 2]},
        "bad_request",
        "args.size[0]: must be a whole number of at least 1",
    ),
    ("streams.lisst", {}, "unknown_op", "op: 'streams.lisst' is unknown; did you mean 'streams.list'?"),
]


@pytest.mark.parametrize("label", ["cat", "chat noir", "猫", "قط", "héron – 2", "👩🏽", ""])
def test_labels_of_any_writing_are_taken(label: str) -> None:
    assert isinstance(parse("objects.add", CAM | {"label": label, "points": [[1, 2]]}), ParsedRequest)


@pytest.mark.parametrize(("op", "args", "code", "text"), REFUSALS)
def test_refused_arguments(op: str, args: dict[str, Any], code: str, text: str) -> None:
    outcome = parse(op, args)
    assert outcome.id in (7, None)
    found_code, message = refusal(outcome)
    assert (found_code, text in message) == (code, True), message


@pytest.mark.parametrize(
    ("envelope", "code", "text"),
    [
        ({"v": 2, "future": 1}, "unsupported_version", "v: 2 is not spoken here; this daemon speaks version 1"),
        ({"v": True}, "unsupported_version", "True"),
        ({"args": []}, "bad_request", "args: must be a map, not a list"),
        ({"op": 3}, "bad_request", "op: must be text"),
        ({"opp": 3}, "bad_request", "unknown field 'opp'; did you mean 'op'?"),
        ({"id": math.nan}, "bad_request", "id: nan is not a finite number"),
    ],
)
def test_refused_envelopes(envelope: dict[str, Any], code: str, text: str) -> None:
    found_code, message = refusal(parse_map({"op": "streams.list"} | envelope))
    assert (found_code, text in message) == (code, True), message


def nested(levels: int) -> object:
    return [nested(levels - 1)] if levels else 1


@pytest.mark.parametrize(
    ("parts", "code", "text"),
    [
        ([], "bad_request", "0 parts"),
        ([b"\x80", b"\x80"], "bad_request", "2 parts"),
        ([b"\x80"] * 9, "too_large", "9 parts"),
        ([b"\x80" * (2**20 + 1)], "too_large", "1048577 bytes"),
        ([b""], "bad_request", "ends too early"),
        ([b"hello"], "bad_request", "something follows"),
        ([b"\xc1"], "bad_request", "not one msgpack map"),
        ([b"\xa1\xff"], "bad_request", "text that is not UTF-8"),
        ([b"\x90"], "bad_request", "a request is a msgpack map, not a list"),
        ([b"\xdd\x00\xff\xff\xff"], "too_large", "more than 4096 items"),
        ([b"\x81\xa1x\xdf\x00\xff\xff\xff"], "too_large", "more than 4096 items"),
        ([b"\x91" * 10000 + b"\x90"], "bad_request", "not one msgpack map"),
        ([msgpack.packb({"id": nested(16)})], "too_large", "16 levels"),
        ([msgpack.packb({"id": [[{}] * 4096] * 17})], "too_large", "65536 values"),
        ([msgpack.packb({"op": "objects.add", "args": {"meta": nested(15)}})], "too_large", "16 levels"),
        (
            [msgpack.packb({"op": "objects.add", "args": {"k" * 257: 1}})],
            "too_large",
            "args: a key of 257 characters",
        ),
        (
            [msgpack.packb({"op": "o", "args": {"a": {"b": [1, {"c": math.nan}]}}})],
            "bad_request",
            "args.a.b[1].c: nan",
        ),
    ],
)
def test_refused_bytes(parts: list[bytes], code: str, text: str) -> None:
    found_code, message = refusal(parse_request(parts, SERVED))
    assert (found_code, text.lower() in message.lower()) == (code, True), message


@pytest.mark.parametrize(("key_chars", "lists"), [(900_000, 1), (50_000, 13), (256, 15)])
def test_a_check_costs_memory_in_proportion_to_the_request(key_chars: int, lists: int) -> None:
    """A path written out for each value would be key length × values: gigabytes from one megabyte."""
    value: list[object] = [0] * 4095
    for _ in range(lists - 1):
        value = [0] * 4095 + [value]
    payload = msgpack.packb({"op": "x", "args": {"k" * key_chars: value}})
    tracemalloc.start()
    try:
        refusal(parse_request([payload], SERVED))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20


@given(st.lists(st.binary(max_size=200), max_size=10))
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_refused_and_never_raise(parts: list[bytes]) -> None:
    outcome = parse_request(parts, SERVED)
    assert refusal(outcome)[0] in ("bad_request", "too_large", "unsupported_version")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
ARG_NAMES = sorted({name for operation in SERVED.values() for name in operation.args.__struct_fields__})


@given(st.sampled_from(sorted(SERVED)), st.dictionaries(st.sampled_from(ARG_NAMES), VALUES, max_size=6), VALUES)
@settings(deadline=None, max_examples=300)
def test_any_arguments_give_a_call_or_a_sendable_refusal(op: str, args: dict[str, Any], id_: object) -> None:
    outcome = parse(op, args, id=id_)
    assert msgspec.msgpack.encode(outcome.id) is not None
    if isinstance(outcome, Refusal):
        assert outcome.error.code in ("bad_request", "bad_prompt", "too_large")


@given(st.sampled_from(sorted(SERVED)), st.data())
@settings(deadline=None, max_examples=200)
def test_one_flipped_byte_never_raises(op: str, data: st.DataObject) -> None:
    payload = bytearray(msgpack.packb({"v": 1, "id": "x", "op": op, "args": MINIMAL_ARGS[op]}))
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    assert isinstance(parse_request([bytes(payload)], SERVED), ParsedRequest | Refusal)


def test_absent_fields_stay_off_the_wire_and_nil_ones_do_not() -> None:
    record = records.ObjectRecord(object=7, state="lost")
    assert msgpack.unpackb(codec.encode(record)) == {
        "object": 7,
        "state": "lost",
        "score": None,
        "presence": None,
        "box": None,
        "area": 0,
        "outline": [],
        "age": 0,
        "label": None,
        "meta": {},
    }
    masked = records.ObjectRecord(object=7, state="visible", mask=fields.Rle((2, 2), b"04"))
    assert msgpack.unpackb(codec.encode(masked))["mask"] == {"size": [2, 2], "counts": b"04"}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"id": 9, "op": "objects.list", "args": {1: 2}}, "a key is no string"),
        (
            {"op": "objects.list", "v": 1, "id": [9, "a"], "args": {"meta": {b"k": 1}}},
            "keys are strings, not bytes",
        ),
        ({"op": "objects.list", "args": {"deep": [{"x": {"id": 1}}]}, "id": "text", "more": {1: 2}}, "a key is no"),
    ],
)
def test_a_request_with_odd_keys_is_refused_under_its_id(message: dict[str, Any], words: str) -> None:
    refused = parse_map(message)
    assert isinstance(refused, Refusal)
    assert refused.id == message["id"]
    assert words in refused.error.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (msgpack.packb(None), "a msgpack map, not nothing"),
        (msgpack.packb(7), "a msgpack map, not a whole number"),
        (msgpack.packb({"op": "objects.list"})[:-3], "it ends too early"),
        (msgpack.packb({"op": "objects.list"}) + b"\0", "something follows it"),
        (b"", "it ends too early"),
        (msgpack.packb({"op": "objects.list", "args": {1: 1}, "id": 3}), "a key is no string"),
        (b"\x82" + msgpack.packb("id") + b"\xc1", "string keys"),
        (b"\xdf\xff\xff\xff\xff", "more than"),
    ],
)
def test_what_is_no_map_is_refused_in_words(data: bytes, words: str) -> None:
    refused = parse_request([data], SERVED)
    assert isinstance(refused, Refusal)
    assert words in refused.error.message


def test_nil_is_as_good_as_absent() -> None:
    assert isinstance(parse_map({"op": "objects.list", "v": None, "args": None, "id": None}), ParsedRequest)
