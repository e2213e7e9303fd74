"""Results as JSON lines, the one format here that keeps everything."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from tracker.exports.results import FrameResult, rle_of_record
from tracker.protocol.fields import Rle
from tracker.protocol.records import ObjectRecord


class JsonLines:
    """One line a frame, the records of the protocol; masks as COCO RLE whose counts are text."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)  # whole lines, whatever happens

    def write(self, result: FrameResult) -> None:
        line = {
            "frame": result.frame,
            "capture": result.capture,
            "name": result.name,
            "pts": result.pts,
            "size": result.size_wh,
            "objects": [_json_record(record, result.size_wh) for record in result.objects],
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def _json_record(record: ObjectRecord, size_wh: tuple[int, int]) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes,))
    if isinstance(record.mask, Rle):
        fields["mask"] = rle_of_record(record, size_wh)
    return fields


def read_json_lines(path: Path) -> Iterator[FrameResult]:
    """What `JsonLines` wrote."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield _result_of(json.loads(line))


def _result_of(fields: dict[str, Any]) -> FrameResult:
    objects = fields["objects"]
    for record in objects:
        if mask := record.get("mask"):
            mask["counts"] = mask["counts"].encode("ascii")
    records = msgspec.convert(objects, list[ObjectRecord])
    width, height = fields["size"]
    return FrameResult(fields["frame"], (width, height), records, fields["pts"], fields["name"], fields["capture"])
