"""Results as a COCO file: what pycocotools loads. Masks as RLE, or as polygons for those who need them."""

import json
from pathlib import Path
from typing import Any

from tracker import __version__
from tracker.exports.results import FrameResult, mask_of_record, rle_of_record
from tracker.masks.geometry import shape_of_mask
from tracker.protocol.records import ObjectRecord

UNLABELLED = "object"
INFO = {"description": "objects followed by tracker", "version": __version__}  # pycocotools wants to have it


class CocoJson:
    """Annotations go to the file as they come. Images count from 1; `track_id` is the object, categories labels.

    COCO polygons have no holes: with `polygons` only the outer borders are written.
    """

    def __init__(self, path: Path, *, polygons: bool = False) -> None:
        self._polygons = polygons
        self._images: list[dict[str, Any]] = []
        self._categories: dict[str, int] = {}
        self._annotations = 0
        self._file = path.open("w", encoding="utf-8")
        self._file.write('{"annotations":[')

    def write(self, result: FrameResult) -> None:
        width, height = result.size_wh
        image_id = result.frame + 1
        name = result.name or f"{result.stem}.jpg"
        image = {"id": image_id, "file_name": name, "width": width, "height": height}
        if result.capture is not None:
            image["capture"] = result.capture
        self._images.append(image)
        for record in result.visible():
            self._write_annotation(record, image_id, result.size_wh)

    def close(self) -> None:
        categories = [{"id": number, "name": name} for name, number in self._categories.items()]
        rest = json.dumps({"info": INFO, "licenses": [], "images": self._images, "categories": categories})
        self._file.write("],\n" + rest[1:])
        self._file.close()

    def _write_annotation(self, record: ObjectRecord, image_id: int, size_wh: tuple[int, int]) -> None:
        self._file.write(",\n" if self._annotations else "\n")
        self._annotations += 1
        json.dump(self._annotation(record, image_id, size_wh), self._file)

    def _annotation(self, record: ObjectRecord, image_id: int, size_wh: tuple[int, int]) -> dict[str, Any]:
        assert record.box is not None  # it is visible
        x1, y1, x2, y2 = record.box
        category_id = self._category_id(record.label or UNLABELLED)
        segmentation = _polygons(record, size_wh) if self._polygons else rle_of_record(record, size_wh)
        return {
            "id": self._annotations,
            "image_id": image_id,
            "category_id": category_id,
            "segmentation": segmentation,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": record.area,
            "iscrowd": 0,
            "score": record.score,
            "track_id": record.object,
        }

    def _category_id(self, name: str) -> int:
        """The next number for a name that is new."""
        next_id = len(self._categories) + 1
        return self._categories.setdefault(name, next_id)


def _polygons(record: ObjectRecord, size_wh: tuple[int, int]) -> list[list[int]]:
    """The outer borders, along pixel edges."""
    exact = shape_of_mask(mask_of_record(record, size_wh), tolerance_px=0)
    return [polygon[0] for polygon in exact.outline]
