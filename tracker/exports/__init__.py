"""Tracking results in the formats that others read.

Every writer takes one `FrameResult` after the other and is closed at the end, also after Ctrl-C.
"""

from collections.abc import Callable
from pathlib import Path

from tracker.exports.coco import CocoJson
from tracker.exports.cvat import CvatXml
from tracker.exports.detections import to_supervision
from tracker.exports.jsonl import JsonLines, read_json_lines
from tracker.exports.mot import MotText
from tracker.exports.pictures import DavisPng, OverlayVideo, drawing_of
from tracker.exports.results import MAX_PNG_OBJECT, FrameResult, Writer, ids_of, mask_of_record, stem_of

__all__ = [
    "MAX_PNG_OBJECT",
    "WRITERS",
    "CocoJson",
    "CvatXml",
    "DavisPng",
    "FrameResult",
    "JsonLines",
    "MotText",
    "OverlayVideo",
    "Writer",
    "drawing_of",
    "ids_of",
    "mask_of_record",
    "read_json_lines",
    "stem_of",
    "to_supervision",
]

# By the name that commands give them; `davis` takes a folder, the others a file.
WRITERS: dict[str, Callable[[Path], Writer]] = {
    "coco": CocoJson,
    "coco-polygons": lambda path: CocoJson(path, polygons=True),
    "cvat": CvatXml,
    "davis": DavisPng,
    "jsonl": JsonLines,
    "mot": MotText,
}
