"""Exports, each loaded back by the library that defines it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import supervision
from msgspec import UNSET
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from tracker.errors import BadRequest
from tracker.exports import (
    WRITERS,
    FrameResult,
    OverlayVideo,
    ids_of,
    mask_of_record,
    read_json_lines,
    to_supervision,
)
from tracker.masks.geometry import fill, shape_of_mask
from tracker.masks.rle import rle_encode
from tracker.masks.types import Bool
from tracker.protocol.fields import Rle
from tracker.protocol.messages import Tracks
from tracker.protocol.records import ObjectRecord
from tracker.streams import sources

TRUTH = Path(__file__).resolve().parents[3] / "shared" / "clips" / "dogs-jump" / "masks"
# pycocotools is not yet up to date with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

LABELS = {1: "woman", 2: "dog", 3: "dog"}


def record_of(object_id: int, mask_hw: Bool, *, rle: bool = True) -> ObjectRecord:
    shape = shape_of_mask(mask_hw, tolerance_px=0)
    return ObjectRecord(
        object=object_id,
        state="visible" if shape.area else "lost",
        score=0.9 if shape.area else 0.1,
        presence=4.0,
        box=shape.box_xyxy,
        area=shape.area,
        outline=shape.outline,
        label=LABELS.get(object_id),
        mask=Rle(mask_hw.shape, rle_encode(mask_hw)) if rle else UNSET,
    )


def result_of(frame: int, ids_hw: np.ndarray) -> FrameResult:
    records = [record_of(object_id, ids_hw == object_id) for object_id in (1, 2, 3)]
    return FrameResult(frame, (ids_hw.shape[1], ids_hw.shape[0]), records, frame / 25, f"{frame:05d}.jpg")


def drawn_ids() -> list[np.ndarray]:
    """A disc with a hole, a bar in two parts that leaves at frame 2, and a moving box that is lost on frame 1."""
    y, x = np.mgrid[:90, :120]
    frames = []
    for t in range(4):
        ids_hw = np.zeros((90, 120), np.uint8)
        away = np.hypot(x - 40 - 3 * t, y - 45)
        ids_hw[(away < 30) & (away > 8)] = 1
        if t < 2:
            ids_hw[5:12, 2:118] = 2
            ids_hw[5:12, 50:60] = 0
        if t != 1:
            ids_hw[60:85, 80 + t : 110 + t] = 3
        frames.append(ids_hw)
    return frames


def true_ids() -> list[np.ndarray]:
    if not TRUTH.is_dir():
        pytest.skip(f"no masks at {TRUTH}")
    return [np.asarray(Image.open(path)) for path in sorted(TRUTH.iterdir())[::12]]


@pytest.fixture(params=[drawn_ids, true_ids], ids=["drawn", "dogs-jump"])
def results(request) -> list[FrameResult]:
    return [result_of(frame, ids_hw) for frame, ids_hw in enumerate(request.param())]


def write(results: list[FrameResult], name: str, path: Path) -> Path:
    writer = WRITERS[name](path)
    for result in results:
        writer.write(result)
    writer.close()
    return path


def visible(results: list[FrameResult]) -> list[tuple[FrameResult, ObjectRecord]]:
    return [(result, record) for result in results for record in result.visible()]


def iou(a: Bool, b: Bool) -> float:
    return (a & b).sum() / (a | b).sum()


def without_holes(mask_hw: Bool) -> Bool:
    outline = shape_of_mask(mask_hw, tolerance_px=0).outline
    filled = [fill([[polygon[0]]], mask_hw.shape[::-1]) for polygon in outline]
    return np.logical_or.reduce(filled)


def test_coco_rle(results, tmp_path, capsys):
    coco = COCO(write(results, "coco", tmp_path / "a.json"))
    coco.info()
    assert [image["id"] for image in coco.loadImgs(coco.getImgIds())] == [r.frame + 1 for r in results]
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [r.name for r in results]
    assert {c["name"] for c in coco.loadCats(coco.getCatIds())} == {"woman", "dog"}
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len(visible(results))
    for annotation, (result, record) in zip(annotations, visible(results), strict=True):
        assert np.array_equal(coco.annToMask(annotation), mask_of_record(record, result.size_wh))
        assert annotation["track_id"] == record.object
        assert coco.loadCats(annotation["category_id"])[0]["name"] == record.label
        assert annotation["area"] == coco_mask.area(annotation["segmentation"]) == record.area
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
    assert len(coco.loadRes(coco.dataset["annotations"]).getAnnIds()) == len(visible(results))
    capsys.readouterr()


def test_coco_polygons(results, tmp_path, capsys):
    coco = COCO(write(results, "coco-polygons", tmp_path / "a.json"))
    for annotation, (result, record) in zip(coco.loadAnns(coco.getAnnIds()), visible(results), strict=True):
        read_hw = coco.annToMask(annotation).astype(bool)
        if record.area > 400:
            assert iou(read_hw, without_holes(mask_of_record(record, result.size_wh))) >= 0.99
    capsys.readouterr()


def test_davis_png(results, tmp_path):
    folder = write(results, "davis", tmp_path / "Annotations" / "480p" / "dogs-jump")
    assert sorted(path.name for path in folder.iterdir()) == [f"{r.frame:05d}.png" for r in results]
    for result in results:
        with Image.open(folder / f"{result.stem}.png") as picture:
            assert (picture.mode, picture.size) == ("P", result.size_wh)
            ids_hw = np.asarray(picture)
        for record in result.objects:
            assert np.array_equal(ids_hw == record.object, mask_of_record(record, result.size_wh))


def test_json_lines(results, tmp_path):
    read = list(read_json_lines(write(results, "jsonl", tmp_path / "a.jsonl")))
    assert [(r.frame, r.size_wh, r.pts, r.name) for r in read] == [
        (r.frame, r.size_wh, r.pts, r.name) for r in results
    ]
    assert [r.objects for r in read] == [r.objects for r in results]


def test_mot(results, tmp_path):
    rows = np.loadtxt(write(results, "mot", tmp_path / "a.txt"), delimiter=",")
    assert rows.shape == (len(visible(results)), 10)
    for row, (result, record) in zip(rows, visible(results), strict=True):
        x1, y1, x2, y2 = record.box
        assert row.tolist() == [result.frame + 1, record.object, x1 + 1, y1 + 1, x2 - x1, y2 - y1, 0.9, -1, -1, -1]


def test_supervision(results):
    class_ids: dict[str, int] = {}
    for result in results:
        detections = to_supervision(result, class_ids)
        assert [class_ids[name] for name in detections.data["class_name"]] == detections.class_id.tolist()
        records = list(result.visible())
        assert isinstance(detections, supervision.Detections)
        assert detections.tracker_id.tolist() == [record.object for record in records]
        assert detections.data["class_name"].tolist() == [record.label for record in records]
        for record, mask_hw, xyxy in zip(records, detections.mask, detections.xyxy, strict=True):
            assert np.array_equal(mask_hw, mask_of_record(record, result.size_wh))
            assert xyxy.tolist() == list(record.box)
        assert detections.area.tolist() == [record.area for record in records]


def test_supervision_s_classes_differ_by_label():
    detections = to_supervision(result_of(0, drawn_ids()[0]))
    assert dict(zip(detections.data["class_name"], detections.class_id, strict=True)) == {"woman": 0, "dog": 1}


def test_supervision_of_nothing():
    assert to_supervision(FrameResult(0, (8, 8), [])) == supervision.Detections.empty()


def test_cvat(results, tmp_path):
    """As CVAT's own loader reads it: tracks of polygons, frames, what is outside."""
    root = ET.parse(write(results, "cvat", tmp_path / "a.xml")).getroot()
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/mode") == "interpolation"
    labels = {label.findtext("name") for label in root.iterfind("meta/task/labels/label")}
    shown = {}
    for track in root.iterfind("track"):
        assert track.get("label") in labels
        for polygon in track.iterfind("polygon"):
            assert polygon.get("keyframe") == "1"
            ring = [round(float(v)) for pair in polygon.get("points").split(";") for v in pair.split(",")]
            shown[int(track.get("id")), int(polygon.get("frame"))] = (polygon.get("outside") == "1", ring)
    for result, record in visible(results):
        outside, ring = shown[record.object, result.frame]
        assert not outside
        largest = max(record.outline, key=lambda p: fill([[p[0]]], result.size_wh).sum())
        assert np.array_equal(fill([[ring]], result.size_wh), fill([[largest[0]]], result.size_wh))


def test_cvat_says_when_an_object_leaves_and_comes_back(tmp_path):
    results = [result_of(frame, ids_hw) for frame, ids_hw in enumerate(drawn_ids())]
    root = ET.parse(write(results, "cvat", tmp_path / "a.xml")).getroot()
    flags = {
        track.get("id"): [(int(p.get("frame")), p.get("outside")) for p in track.iterfind("polygon")]
        for track in root.iterfind("track")
    }
    assert flags["2"] == [(0, "0"), (1, "0"), (2, "1")]
    assert flags["3"] == [(0, "0"), (1, "1"), (2, "0"), (3, "0")]


def test_a_published_message_is_written_by_its_outline(tmp_path):
    """Without `publish.masks: rle` the outline is all there is; at tolerance 0 it is the mask."""
    ids_hw = drawn_ids()[0]
    clocks = {"pts": 0.28, "time": 1.0, "camera_time": None, "mono_ns": 1, "published_mono_ns": 2}
    records = [record_of(object_id, ids_hw == object_id, rle=False) for object_id in (1, 2)]
    counts = {"seq": 0, "frame": 7, "step": 7, "epoch": 0, "dropped": 0}
    message = Tracks(instance="i", stream="cam", size=(120, 90), objects=records, **clocks, **counts)
    result = FrameResult.of(message)
    assert result.stem == "00007"
    folder = write([result], "davis", tmp_path / "masks")
    assert np.array_equal(np.asarray(Image.open(folder / "00007.png")), np.where(ids_hw == 3, 0, ids_hw))


def test_where_objects_overlap_the_higher_score_wins():
    mask_hw = np.ones((4, 4), bool)
    low, high = record_of(1, mask_hw), record_of(2, mask_hw)
    result = FrameResult(0, (4, 4), [ObjectRecord(**{**fields(high), "score": 0.95}), low])
    assert (ids_of(result) == 2).all()


def fields(record: ObjectRecord) -> dict:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_ids_that_a_png_cannot_hold_are_refused():
    result = FrameResult(0, (4, 4), [record_of(256, np.ones((4, 4), bool))])
    with pytest.raises(BadRequest, match="object 256: in indexed PNGs ids go up to 255"):
        ids_of(result)


def test_an_overlay_video_keeps_the_times_of_the_frames(tmp_path):
    video = OverlayVideo(tmp_path / "a.mp4", 25)
    for frame, pts in ((3, 5.0), (4, 5.04), (9, 6.0)):
        result = FrameResult(frame, (120, 90), result_of(0, drawn_ids()[0]).objects, pts)
        video.write(np.zeros((90, 120, 3), np.uint8), result)
    video.close()
    assert [round(f.pts, 2) for f in sources.frames(tmp_path / "a.mp4")] == [0, 0.04, 1.0]


def test_nothing_written_is_still_a_file(tmp_path, capsys):
    assert COCO(write([], "coco", tmp_path / "a.json")).getAnnIds() == []
    assert ET.parse(write([], "cvat", tmp_path / "a.xml")).getroot().find("track") is None
    capsys.readouterr()
