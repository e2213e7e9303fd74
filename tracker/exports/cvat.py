"""Results as CVAT's XML for video: one polygon track for each object."""

from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from tracker.exports.coco import UNLABELLED
from tracker.exports.results import FrameResult
from tracker.protocol.replies import ObjectRecord


@dataclass(slots=True)
class _Track:
    label: str
    shapes: list[dict[str, str]] = field(default_factory=list)


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
        visible = {record.object: record for record in result.visible()}
        for object_id, record in visible.items():
            track = self._tracks.setdefault(object_id, _Track(record.label or UNLABELLED))
            track.shapes.append(_shape(result.frame, _largest_part(record), outside=False))
        for object_id, track in self._tracks.items():
            if object_id not in visible and track.shapes[-1]["outside"] == "0":
                track.shapes.append(track.shapes[-1] | {"frame": str(result.frame), "outside": "1"})

    def close(self) -> None:
        root = ET.Element("annotations")
        ET.SubElement(root, "version").text = "1.1"
        root.append(self._meta())
        for object_id, track in sorted(self._tracks.items()):
            attributes = {"id": str(object_id), "label": track.label, "source": "auto"}
            element = ET.SubElement(root, "track", attributes)
            for shape in track.shapes:
                ET.SubElement(element, "polygon", shape)
        ET.indent(root)
        ET.ElementTree(root).write(self._file, encoding="utf-8", xml_declaration=True)
        self._file.close()

    def _meta(self) -> ET.Element:
        meta = ET.Element("meta")
        task = ET.SubElement(meta, "task")
        ET.SubElement(task, "size").text = str(self._frames)
        ET.SubElement(task, "mode").text = "interpolation"
        labels = ET.SubElement(task, "labels")
        for name in sorted({track.label for track in self._tracks.values()}):
            label = ET.SubElement(labels, "label")
            ET.SubElement(label, "name").text = name
            ET.SubElement(label, "attributes")
        size = ET.SubElement(task, "original_size")
        ET.SubElement(size, "width").text, ET.SubElement(size, "height").text = map(str, self._size_wh)
        return meta


def _largest_part(record: ObjectRecord) -> list[int]:
    return max((polygon[0] for polygon in record.outline), key=_doubled_area)


def _doubled_area(ring: list[int]) -> int:
    xs, ys = ring[::2], ring[1::2]
    return sum(
        x * next_y - next_x * y
        for x, y, next_x, next_y in zip(xs, ys, xs[1:] + xs[:1], ys[1:] + ys[:1], strict=True)
    )


def _shape(frame: int, ring: list[int], *, outside: bool) -> dict[str, str]:
    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in zip(ring[::2], ring[1::2], strict=True))
    flags = {"outside": str(int(outside)), "occluded": "0", "keyframe": "1"}
    return {"frame": str(frame), **flags, "points": points, "z_order": "0"}
