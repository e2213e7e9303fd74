"""`trackerd segment`, and `trackerd track --everything`: pictures in, masks in the formats that others read."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import save_file

from tracker.cli.options import knobs_of
from tracker.cli.trackerd import trackerd
from tracker.engine.engine import Engine
from tracker.engine.models import build, zoo
from tracker.engine.segmenter import Segmenter
from tracker.errors import BadPrompt, SourceError
from tracker.exports import read_json_lines
from tracker.images import imaging
from tracker.images.stills import read_still
from tracker.images.types import Rgb
from tracker.masks.geometry import mask_of
from tracker.offline import images
from tracker.protocol.prompt import Prompt
from tracker.protocol.requests import Prompted, SegmentAll

# pycocotools is not yet up to date with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZE_WH = (96, 64)
# What an untrained network finds something with.
LOOSE = {
    "points_per_side": 3,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.05,
    "stability_score_offset": 0.01,
    "box_nms_thresh": 1.0,
    "max_masks": 5,
}
LOOSE_OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in LOOSE.items()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    net = build.network(zoo.config_path("nano"))
    path: Path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def engine(checkpoint) -> Engine:
    net = build.network(zoo.config_path("nano"), 128)
    build.load_weights(net, checkpoint, "nano")
    return Engine(build.Model("nano", net))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("pictures")
    for index in range(3):
        rgb_hwc = np.random.default_rng(index).integers(30, 110, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
        rgb_hwc[20:44, 20 + 8 * index : 48 + 8 * index] = (220, 180, 60)
        Image.fromarray(rgb_hwc).save(path / f"shot{index}.png")
    return path


def run(checkpoint: Path, *arguments: object, catch: bool = False) -> Result:
    command = [*map(str, arguments), f"--checkpoint={checkpoint}", "--image-size=128"]
    return CliRunner().invoke(trackerd, command, catch_exceptions=catch)


def test_a_prompt_on_every_picture(checkpoint, engine, folder, tmp_path, capsys):
    out = [f"--masks={tmp_path / 'm'}", f"--coco={tmp_path / 'a.json'}", f"--overlays={tmp_path / 'o'}"]
    result = run(checkpoint, "segment", folder, "--point=40,30", "--point=2,2,0", *out)
    assert result.exit_code == 0
    assert "3/3" in result.stderr
    prompt = Prompt(np.array([[40, 30], [2, 2]], np.float32), np.array([1, 0], np.int32))
    coco = COCO(tmp_path / "a.json")
    assert [i["file_name"] for i in coco.loadImgs(coco.getImgIds())] == ["shot0.png", "shot1.png", "shot2.png"]
    for image_id, path in enumerate(sorted(folder.iterdir()), 1):
        candidate = Segmenter(engine).candidates("key", Rgb(read_still(path)), prompt)[0]
        expected_hw = mask_of(candidate.logits_hw, SIZE_WH)
        assert expected_hw.any()
        assert np.array_equal(np.asarray(Image.open(tmp_path / "m" / path.name)) == 1, expected_hw)
        (annotation,) = coco.loadAnns(coco.getAnnIds(image_id))
        assert np.array_equal(coco.annToMask(annotation), expected_hw)
        drawn_hwc = imaging.decode((tmp_path / "o" / f"{path.stem}.jpg").read_bytes())
        assert drawn_hwc.shape == (SIZE_WH[1], SIZE_WH[0], 3)
    capsys.readouterr()


def test_three_candidates_best_first(checkpoint, folder, tmp_path, capsys):
    command = [
        "segment",
        folder / "shot0.png",
        "--box=20,20,48,44",
        "--candidates",
        f"--coco={tmp_path / 'a.json'}",
    ]
    assert run(checkpoint, *command).exit_code == 0
    coco = COCO(tmp_path / "a.json")
    scores = [annotation["score"] for annotation in coco.loadAnns(coco.getAnnIds())]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    capsys.readouterr()


def test_everything(checkpoint, folder, tmp_path, capsys):
    out = [f"--masks={tmp_path / 'm'}", f"--coco={tmp_path / 'a.json'}"]
    assert run(checkpoint, "segment", folder / "shot1.png", "--everything", *LOOSE_OPTIONS, *out).exit_code == 0
    coco = COCO(tmp_path / "a.json")
    assert 2 <= len(coco.getAnnIds()) <= 5
    assert np.asarray(Image.open(tmp_path / "m" / "shot1.png")).max() >= 1
    capsys.readouterr()


def test_where_nothing_is_found_it_is_said_what_to_lower(checkpoint, folder, tmp_path, capsys):
    strict = ["--pred-iou-thresh=1", "--points-per-side=2", f"--coco={tmp_path / 'a.json'}"]
    result = run(checkpoint, "segment", folder / "shot1.png", "--everything", *strict)
    assert result.exit_code == 0
    assert "0 masks" in result.stdout
    assert "nothing was found; lower --pred-iou-thresh or --stability-score-thresh" in result.stderr
    capsys.readouterr()


def test_everything_exclusive_and_at_most_max_masks(engine, folder):
    rgb_hwc = read_still(folder / "shot0.png")
    steps = []
    every = images.segment_everything(
        engine, rgb_hwc, SegmentAll(stream="file", **LOOSE), on_step=lambda *step: steps.append(step)
    )
    assert steps[-1] == (9, 9)
    assert [f.score for f in every] == sorted((f.score for f in every), reverse=True)
    few = images.segment_everything(engine, rgb_hwc, SegmentAll(stream="file", **{**LOOSE, "max_masks": 2}))
    assert [f.rle_counts for f in few] == [f.rle_counts for f in every[:2]]
    apart = images.segment_everything(engine, rgb_hwc, SegmentAll(stream="file", **LOOSE, exclusive=True))
    assert sum(f.mask_hw.astype(int) for f in apart).max() == 1


def test_everything_on_a_frame_is_tracked(checkpoint, folder, tmp_path):
    out = [f"--jsonl={tmp_path / 'a.jsonl'}", f"--export=mot={tmp_path / 'a.txt'}"]
    command = ["track", folder, "--everything", "--frame=1", "--object=5", "--reverse", *LOOSE_OPTIONS, *out]
    assert run(checkpoint, *command, "--max-masks=2").exit_code == 0
    results = list(read_json_lines(tmp_path / "a.jsonl"))
    assert [[record.object for record in r.objects] for r in results] == [[5, 6]] * 3
    assert (tmp_path / "a.txt").is_file()


def test_a_broken_picture_is_named_and_the_rest_goes_on(checkpoint, folder, tmp_path):
    broken = tmp_path / "a picture [edited] with a long name.png"
    broken.write_bytes(b"no picture")
    command = ["segment", broken, folder / "shot0.png", "--point=40,30", f"--coco={tmp_path / 'a.json'}"]
    result = run(checkpoint, *command, catch=True)
    assert isinstance(result.exception, SourceError)
    assert "1 of 2 pictures were passed over" in result.exception.message
    assert f"{broken}: is not a picture that can be read" in result.stderr
    assert len(COCO(tmp_path / "a.json").getImgIds()) == 1


@pytest.mark.parametrize(("name", "point"), [("broken.png", "1,1"), ("shot0.png", "9999,1")])
def test_a_single_picture_of_which_nothing_can_be_told_leaves_no_file(checkpoint, folder, tmp_path, name, point):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    picture, coco = (tmp_path if name == "broken.png" else folder) / name, tmp_path / "a.json"
    with pytest.raises((SourceError, BadPrompt)):
        run(checkpoint, "segment", picture, f"--point={point}", f"--coco={coco}")
    assert not coco.exists()


def test_pictures_of_folders_and_files(folder, tmp_path):
    assert images.find_pictures([folder / "shot2.png", tmp_path.parent / folder]) != []
    found = images.find_pictures([folder])
    assert [path.name for path in found] == ["shot0.png", "shot1.png", "shot2.png"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("clip.mp4", r"has no ending of a picture \(.bmp, .*\); videos go to `trackerd track`"),
        ("empty", "has no pictures"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(SourceError, match=message):
        images.find_pictures([tmp_path / name])


def test_two_pictures_of_one_name_are_refused_where_their_masks_would_be_one_file(checkpoint, folder, tmp_path):
    other = tmp_path / "shot1.png"
    shutil.copy(folder / "shot0.png", other)
    mark = ["segment", folder, other, "--point=40,30"]
    with pytest.raises(SourceError, match="have one name"):
        run(checkpoint, *mark, f"--masks={tmp_path / 'masks'}")
    run(checkpoint, *mark, f"--coco={tmp_path / 'all.json'}")
    assert len(COCO(tmp_path / "all.json").getImgIds()) == 4


def test_a_picture_that_the_marks_miss_is_named_and_the_rest_goes_on(checkpoint, folder, tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (20, 10)).save(small)
    pictures = [folder / "shot0.png", small, folder / "shot1.png"]
    options = ["--point=40,30", f"--coco={tmp_path / 'a.json'}"]
    result = run(checkpoint, "segment", *pictures, *options, catch=True)
    assert str(result.exception) == "1 of 3 pictures were passed over"
    assert "points[0]: (40, 30) is outside" in " ".join(result.output.split())
    assert len(COCO(tmp_path / "a.json").getImgIds()) == 2


def test_a_prompt_outside_the_picture_is_refused(engine, folder):
    rgb_hwc = read_still(folder / "shot0.png")
    with pytest.raises(BadPrompt, match="outside the frame of 96 × 64"):
        images.segment_prompted(engine, rgb_hwc, Prompted(points=[(96.5, 5)]), multimask=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--coco=x.json"], "give --point or --box, or both, or --everything"),
        (["--point=1,1", "--everything", "--coco=x.json"], "give --point or --box, or both, or --everything"),
        (["--point=1,1"], "nothing to write"),
        (["--everything", "--masks=m", "--max-masks=256"], "--max-masks is at most 255"),
    ],
)
def test_wrong_options(folder, options, message):
    result = CliRunner().invoke(trackerd, ["segment", str(folder), *options])
    assert result.exit_code == 2
    assert message in result.stderr


def test_knobs_have_the_defaults_and_limits_of_the_protocol(folder):
    defaults = {field: getattr(SegmentAll(stream="file"), field) for field in SegmentAll.__struct_fields__}
    assert knobs_of(dict(defaults)) == SegmentAll(stream="file")
    command = ["segment", str(folder), "--everything", "--coco=x.json", "--pred-iou-thresh=2"]
    error = CliRunner().invoke(trackerd, command).exception
    assert "--pred-iou-thresh: must be a number of at most 1.0" in str(error)
