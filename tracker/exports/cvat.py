"""Results as CVAT's XML for video: one polygon track for each object."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tracker.exports.coco import UNLABELLED
from tracker.exports.results import FrameResult
from tracker.protocol.records import ObjectRecord


@dataclass(slots=True)
class _Track:
    label: str
    shapes: list[dict[str, str]] = field(default_factory=list)

    def show(self, frame: int, record: ObjectRecord) -> None:
        self.shapes.append(_shape(frame, _largest_part(record)))

    def hide(self, frame: int) -> None:
        last = self.shapes[-1]
        if last["outside"] == "0":
            self.shapes.append(last | {"frame": str(frame), "outside": "1"})


class CvatXml:
    """ "CVAT for video 1.1". A CVAT track has one polygon a frame, without holes: that of the object's largest part
    (CVAT knows no mask tracks). Where the object is lost the track is outside. Written when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._tracks: dict[int, _Track] = {}
        self._frames = 0
        self._size_wh = (0, 0)

    def write(self, result: FrameResult) -> None:
        self._frames = max(self._frames, result.frame + 1)
        self._size_wh = result.size_wh
        seen = {record.object: record for record in result.visible()}
        for object_id, record in seen.items():
            track = self._tracks.setdefault(object_id, _Track(record.label or UNLABELLED))
            track.show(result.frame, record)
        for object_id in self._tracks.keys() - seen.keys():
            self._tracks[object_id].hide(result.frame)

    def close(self) -> None:
        root = ET.Element("annotations")
        _add_text(root, "version", "1.1")
        root.append(self._meta())
        for object_id, track in sorted(self._tracks.items()):
            root.append(_element(object_id, track))
        ET.indent(root)
        self._file.write(ET.tostring(root, encoding="utf-8", xml_declaration=True))
        self._file.close()

    def _meta(self) -> ET.Element:
        width, height = self._size_wh
        names = {track.label for track in self._tracks.values()}
        meta = ET.Element("meta")
        task = ET.SubElement(meta, "task")
        _add_text(task, "size", self._frames)
        _add_text(task, "mode", "interpolation")
        labels = ET.SubElement(task, "labels")
        for name in sorted(names):
            _add_label(labels, name)
        size = ET.SubElement(task, "original_size")
        _add_text(size, "width", width)
        _add_text(size, "height", height)
        return meta


def _element(object_id: int, track: _Track) -> ET.Element:
    element = ET.Element("track", {"id": str(object_id), "label": track.label, "source": "auto"})
    for shape in track.shapes:
        ET.SubElement(element, "polygon", shape)
    return element


def _add_text(parent: ET.Element, tag: str, value: object) -> None:
    ET.SubElement(parent, tag).text = str(value)


def _add_label(labels: ET.Element, name: str) -> None:
    label = ET.SubElement(labels, "label")
    _add_text(label, "name", name)
    ET.SubElement(label, "attributes")


def _largest_part(record: ObjectRecord) -> list[int]:
    return max((polygon[0] for polygon in record.outline), key=_doubled_area)


def _doubled_area(ring: list[int]) -> int:
    xs, ys = ring[::2], ring[1::2]
    return sum(
        x * next_y - next_x * y
        for x, y, next_x, next_y in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    )


def _shape(frame: int, ring: list[int]) -> dict[str, str]:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(ring[::2], ring[1::2], strict=True))
    return {
        "frame": str(frame),
        "outside": "0",
        "occluded": "0",
        "keyframe": "1",
        "points": points,
        "z_order": "0",
    }
