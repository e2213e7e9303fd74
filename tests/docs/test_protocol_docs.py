"""`docs/protocol.md` names everything that goes over the wire."""

import re
from pathlib import Path
from typing import get_args

import msgpack
import pytest
from msgspec import Struct

from tracker import errors
from tracker.protocol import fields, look_replies, messages, object_requests, records, replies
from tracker.protocol.operations import OPERATIONS

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
NAMED = set(
    re.findall(r"[a-z0-9_.]+", " ".join(re.findall(r"`([^`\n]+)`", TEXT) + re.findall(r"^    .+$", TEXT, re.M)))
)
INTERNAL = {errors.ConfigError, errors.ModelError, errors.SourceError}


def section(title: str) -> str:
    """From a heading that names `title` to the next heading."""
    match = re.search(rf"^### [^\n]*`{re.escape(title)}`[^\n]*\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S)
    assert match, f"no section on {title}"
    return match[1]


@pytest.mark.parametrize(("op", "args"), [(name, operation.args) for name, operation in OPERATIONS.items()])
def test_every_operation_has_a_section_that_names_its_arguments(op: str, args: type[Struct]) -> None:
    text = section(op)
    if op == "objects.add_many":
        args_fields = set(args.__struct_fields__) | set(object_requests.Detection.__struct_fields__)
    else:
        args_fields = set(args.__struct_fields__)
    prompt = {"points", "labels", "box", "mask"} if "prompt as in `objects.add`" in text else set()
    missing = {name for name in args_fields - prompt if not re.search(rf"`{name}[`:]", text)}
    assert not missing


@pytest.mark.parametrize(
    "record",
    [
        kind
        for module in (records, messages, replies, look_replies)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, records.Record) and kind.__module__ == module.__name__
    ],
)
def test_every_field_of_every_record_is_named(record: type[records.Record]) -> None:
    assert set(record.__struct_fields__) <= NAMED


@pytest.mark.parametrize("event", get_args(fields.EventName))
def test_every_event_is_named(event: str) -> None:
    assert f"`{event}`" in section("events")


def test_every_error_code_is_named_and_no_other() -> None:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.TrackerError)]
    table = TEXT[TEXT.index("## Errors") : TEXT.index("## Published")]
    codes = {
        code for row in re.findall(r"^\| (`[^|]+) \|", table, re.M) for code in re.findall(r"`([a-z_]+)`", row)
    }
    assert codes == {kind.code for kind in kinds if kind not in INTERNAL}


def test_the_example_bytes_are_a_request() -> None:
    (line,) = re.findall(r"^    ((?:[0-9a-f]{2} ?)+)$", TEXT, re.M)
    assert msgpack.unpackb(bytes.fromhex(line)) == {"op": "server.info"}
