"""Whole files through the engine: equal to the official predictor, streaming, refusing what does not fit."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file
from sam2.build_sam import build_sam2_video_predictor
from tqdm import tqdm

from helpers import videos
from tracker.cli.trackerd import main, trackerd
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.models import build, zoo
from tracker.errors import BadPrompt, SourceError
from tracker.exports import read_json_lines
from tracker.images.overlay import palette
from tracker.images.types import Frame, Rgb
from tracker.images.video_writer import VideoWriter
from tracker.masks.rle import rle_decode
from tracker.masks.types import ObjectMask
from tracker.offline import entries, video
from tracker.offline.entries import PromptEntry
from tracker.offline.video import Outcome
from tracker.protocol.fields import Rle
from tracker.protocol.requests import SegmentAll
from tracker.streams import sources

CLIP = Path(__file__).resolve().parents[3] / "shared" / "clips" / "car-shadow" / "frames"
SIZE_WH = (96, 64)
SIDE = 128
FRAMES = 5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """Weights of nano: the bundled ones, or initialised with a fixed seed and an object score above 0."""
    bundled = zoo.checkpoint_path("nano")
    if bundled.is_file():
        return bundled
    torch.manual_seed(3)
    net = build.network(zoo.config_path("nano"))
    net.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    path: Path = tmp_path_factory.mktemp("weights") / "nano.safetensors"
    save_file(net.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Engine:
    net = build.network(zoo.config_path("nano"), SIDE)
    build.load_weights(net, checkpoint, "nano")
    return Engine(build.Model("nano", net), EngineConfig(fill_hole_area=0, edges="model"))


def scene(index: int) -> np.ndarray:
    """A bright square that moves over a textured ground, uint8 [h, w, 3]."""
    rgb_hwc = np.random.default_rng(1).integers(30, 110, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    rgb_hwc[20:44, 20 + 4 * index : 48 + 4 * index] = (220, 180, 60)
    return rgb_hwc


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("frames")
    for index in range(FRAMES):
        Image.fromarray(scene(index)).save(path / f"{index:05d}.jpg", quality=95)
    return path


@pytest.fixture(scope="module")
def predictor(engine) -> Any:
    """The official one, with the engine's weights."""
    return official_predictor(SIDE, engine.model.net.state_dict())


def official_predictor(image_size: int, weights: dict[str, Any]) -> Any:
    overrides = [f"++model.image_size={image_size}", "++model.add_all_frames_to_correct_as_cond=true"]
    predictor = build_sam2_video_predictor(
        f"//{zoo.config_path('nano')}", device="cpu", hydra_overrides_extra=overrides
    )
    predictor.load_state_dict(weights)
    predictor.fill_hole_area = 0  # it needs a CUDA extension
    return predictor


class OfficialVideo:
    """`SAM2VideoPredictor` on a folder of JPEGs; masks as bool [h, w] by frame and object."""

    def __init__(self, predictor: Any, folder: Path) -> None:
        self.predictor = predictor
        self.state = predictor.init_state(str(folder))

    def prompt(self, entry: PromptEntry) -> None:
        self.predictor.add_new_points_or_box(
            self.state, entry.frame, entry.object, points=entry.points, labels=entry.labels, box=entry.box
        )

    def follow(self, reverse: bool = False) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        for frame, ids, logits in self.predictor.propagate_in_video(self.state, reverse=reverse):
            yield frame, {i: (logit[0] > 0).numpy() for i, logit in zip(ids, logits, strict=True)}


@pytest.fixture(autouse=True)
def quiet_tqdm(monkeypatch):
    """Its progress bars start a thread that stays."""
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


def seen_masks(outcome: Outcome) -> dict[int, np.ndarray]:
    masks = {record.object: record.mask for record in outcome.result.objects}
    return {number: rle_decode(m.counts, m.size) for number, m in masks.items() if isinstance(m, Rle)}


def assert_same(ours: dict[int, np.ndarray], theirs: dict[int, np.ndarray], share: float = 0.999) -> None:
    assert ours.keys() == theirs.keys()
    for object_id, mask_hw in ours.items():
        assert (mask_hw == theirs[object_id]).mean() >= share


BOX = PromptEntry(object=1, box=(20, 20, 48, 44))
POINTS = PromptEntry(object=2, points=[(30, 30), (5, 5)], labels=[1, 0])


def test_every_frame_equals_the_official_predictor(engine, predictor, folder):
    official = OfficialVideo(predictor, folder)
    official.prompt(BOX)
    official.prompt(POINTS)
    expected = dict(official.follow())
    outcomes = list(video.track(engine, folder, [BOX, POINTS]))
    assert [o.frame.index for o in outcomes] == sorted(expected) == list(range(FRAMES))
    for outcome in outcomes:
        assert_same(seen_masks(outcome), expected[outcome.frame.index])


def test_tracking_back_equals_the_official_predictor(engine, predictor, folder):
    entry = PromptEntry(object=1, frame=3, box=(32, 20, 60, 44))
    official = OfficialVideo(predictor, folder)
    official.prompt(entry)
    expected = dict(official.follow(reverse=True))
    outcomes = list(video.track(engine, folder, [entry], reverse=True))
    assert sorted(expected) == [0, 1, 2, 3]
    for outcome in outcomes[:4]:
        assert_same(seen_masks(outcome), expected[outcome.frame.index])
    assert [sorted(o.masks) for o in outcomes] == [[1]] * FRAMES
    forward_only = list(video.track(engine, folder, [entry]))
    assert [sorted(o.masks) for o in forward_only] == [[], [], [], [1], [1]]


def test_a_later_entry_of_an_object_corrects_it(engine, predictor, folder):
    """As upstream's: track up to the frame, click again there, go on."""
    correction = PromptEntry(object=1, frame=2, points=[(34, 24)], labels=[0])
    official = OfficialVideo(predictor, folder)
    official.prompt(BOX)
    expected = dict(official.follow())
    official.prompt(correction)
    corrected = {f: m for f, m in official.follow() if f >= 2}
    outcomes = list(video.track(engine, folder, [BOX, correction]))
    for outcome in outcomes:
        assert_same(seen_masks(outcome), (expected | corrected)[outcome.frame.index])
    assert any((corrected[f][1] != expected[f][1]).any() for f in corrected), "the correction changed nothing"


def test_a_real_clip_equals_the_official_predictor(checkpoint, tmp_path):
    """The command line at the model's own size, with what `models show` says."""
    if not CLIP.is_dir():
        pytest.skip(f"no clip at {CLIP}")
    frames = tmp_path / "frames"
    frames.mkdir()
    for path in sorted(CLIP.iterdir())[:4]:
        shutil.copy(path, frames)
    shown = json.loads(CliRunner().invoke(trackerd, ["models", "show", "nano", "--json"]).output)
    assert Path(shown["config"]) == zoo.config_path("nano")
    net = build.network(Path(shown["config"]))
    build.load_weights(net, checkpoint, "nano")
    official = OfficialVideo(official_predictor(shown["image_size"], net.state_dict()), frames)
    official.prompt(PromptEntry(object=3, box=(310, 95, 660, 290)))
    command = [
        "track",
        str(frames),
        "--box",
        "310,95,660,290",
        "--object",
        "3",
        "--edges",
        "model",
        "--masks",
        str(tmp_path / "masks"),
    ]
    result = CliRunner().invoke(trackerd, [*command, "--checkpoint", str(checkpoint)], catch_exceptions=False)
    assert result.exit_code == 0
    for frame, masks in official.follow():
        picture = Image.open(tmp_path / "masks" / f"{frame:05d}.png")
        assert (picture.mode, picture.size) == ("P", (854, 480))
        assert_same({3: np.asarray(picture) == 3}, masks)


def test_frames_stream_through(engine):
    """Never more than the frame at hand is asked for."""
    asked: list[int] = []

    def frames() -> Iterator[Frame]:
        for index in range(FRAMES):
            asked.append(index)
            yield Frame("file", index, 0, None, 0.0, 0, None, Rgb(scene(index)))

    for frame, _ in video.follow(engine, frames(), [BOX]):
        assert asked[-1] == frame.index
    assert asked == list(range(FRAMES))


def test_overlaps_go_to_the_higher_logit():
    logits = {
        1: np.full((8, 8), 1, np.float32),
        7: np.full((8, 8), -1, np.float32),
        9: np.full((8, 8), -1, np.float32),
    }
    logits[7][:, 4:] = 3
    logits[9][:4] = 2
    masks = {object_id: ObjectMask(logits_hw, 0.9, 5.0) for object_id, logits_hw in logits.items()}
    ids_hw = Outcome(Frame("file", 0, 0, None, 0.0, 0, None, Rgb(np.zeros((8, 8, 3), np.uint8))), masks).ids_hw
    assert (ids_hw[:4, :4] == 9).all()
    assert (ids_hw[:, 4:] == 7).all()
    assert (ids_hw[4:, :4] == 1).all()


def test_the_command_writes_masks_records_and_an_overlay(checkpoint, folder, tmp_path):
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(
        "- {object: 1, frame: 1, box: [24, 20, 52, 44]}\n- {object: 2, frame: 2, points: [[30, 30]]}\n"
    )
    out = [
        f"--{kind}={tmp_path / name}" for kind, name in (("masks", "m"), ("jsonl", "a.jsonl"), ("overlay", "a.mp4"))
    ]
    command = ["track", str(folder), f"--prompts={prompts}", "--reverse", f"--checkpoint={checkpoint}", *out]
    result = CliRunner().invoke(trackerd, [*command, "--image-size=128"], catch_exceptions=False)
    assert result.exit_code == 0
    assert f"{FRAMES + 3}/{FRAMES + 3}" in result.stderr
    names = sorted(path.name for path in folder.iterdir())
    results = list(read_json_lines(tmp_path / "a.jsonl"))
    assert [r.name for r in results] == names
    assert [[record.object for record in r.objects] for r in results] == [[1, 2]] * FRAMES
    pictures = sorted((tmp_path / "m").iterdir())
    assert [path.name for path in pictures] == [name.replace(".jpg", ".png") for name in names]
    for path, line in zip(pictures, results, strict=True):
        with Image.open(path) as picture:
            assert picture.getpalette()[:30] == palette()[:30]
            drawn_hw = np.asarray(picture) > 0
        either = [rle_decode(r.mask.counts, r.mask.size) for r in line.objects]
        assert np.array_equal(drawn_hw, np.logical_or.reduce(either))
    assert len(list(sources.frames(tmp_path / "a.mp4"))) == FRAMES


def test_masks_of_a_video_are_named_by_number(checkpoint, tmp_path):
    with VideoWriter(tmp_path / "a.mp4", SIZE_WH, 25) as video:
        for index in range(3):
            video.write(scene(index))
    command = ["track", str(tmp_path / "a.mp4"), "--point=30,30", "--point=4,4,0", "--frame=1"]
    command += [f"--masks={tmp_path / 'm'}", f"--checkpoint={checkpoint}", "--image-size=128"]
    assert CliRunner().invoke(trackerd, command, catch_exceptions=False).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert not np.asarray(Image.open(tmp_path / "m" / "00000.png")).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("object: 1", "must be a list"),
        ("[]", "one entry or more"),
        ("- {object: 1, box: [1, 2", "not valid YAML"),
        ("- {object: 0, box: [1, 1, 9, 9]}", "entry 1: object: must be a whole number of at least 1"),
        ("- {object: 1, box: [1, 1, 9, 9]}\n- {object: 1, frames: 2}", "entry 2: unknown field 'frames'"),
        ("- {box: [1, 1, 9, 9]}", "object is missing"),
        ("- {object: 1, points: [[1, 1]], labels: [x]}", "labels"),
    ],
)
def test_prompt_files_that_are_refused(tmp_path, text, message):
    path = tmp_path / "prompts.yaml"
    path.write_text(text)
    with pytest.raises(BadPrompt, match=rf"prompts\.yaml.*{message}"):
        entries.read_entries(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            PromptEntry(object=4, frame=FRAMES, box=(1, 1, 9, 9)),
            f"object 4, frame {FRAMES}: it has {FRAMES} frames",
        ),
        (PromptEntry(object=4), "object 4, frame 0: empty prompt"),
        (
            PromptEntry(object=4, points=[(500, 1)]),
            r"object 4, frame 0: points\[0\]: .* outside the frame of 96 × 64",
        ),
        (PromptEntry(object=4, points=[(5, 1)], labels=[1, 1]), "labels: 2 for 1 points"),
        (PromptEntry(object=4, points=[(5, 1)], labels=[2]), r"labels\[0\]: 2 is neither 1"),
        (PromptEntry(object=4, points=[(5, 1)], labels=[0]), "labels: all points are off the object"),
        (
            PromptEntry(object=1, box=(1, 1, 9, 9)),  # BOX is on this frame already
            "object 1, frame 0: box: .* give points to correct it, or put box and points into one entry",
        ),
    ],
)
def test_prompts_are_refused_before_anything_is_done(engine, folder, entry, message):
    with pytest.raises(BadPrompt, match=message):
        video.track(engine, folder, [BOX, entry])


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.h264", "fragments.mp4"])
def test_a_prompt_beyond_the_end_of_a_film_is_refused_before_anything_is_done(engine, tmp_path, name):
    path = tmp_path / name
    if name == "fragments.mp4":  # its header knows of no frames
        with VideoWriter(path, SIZE_WH, 25) as film:
            for index in range(FRAMES):
                film.write(scene(index))
    else:
        videos.write(path, videos.moving(FRAMES, SIZE_WH))
    with pytest.raises(BadPrompt, match=f"object 1, frame {FRAMES}: it has {FRAMES} frames, counted from 0"):
        video.track(engine, path, [BOX, PromptEntry(object=1, frame=FRAMES, points=[(9, 9)])])
    last = PromptEntry(object=1, frame=FRAMES - 1, points=[(30, 30)])
    assert len(list(video.track(engine, path, [last]))) == FRAMES


def test_everything_on_a_frame_beyond_the_end_is_refused_before_anything_is_decoded(engine, tmp_path, monkeypatch):
    videos.write(tmp_path / "film.mp4", videos.moving(FRAMES, SIZE_WH))
    monkeypatch.setattr(video, "steady_frames", lambda _: pytest.fail("decoded"))
    with pytest.raises(BadPrompt, match=f"frame {FRAMES}: it has {FRAMES} frames, counted from 0"):
        video.everything_on(engine, tmp_path / "film.mp4", FRAMES, SegmentAll(stream="file"))


def test_pictures_of_two_sizes_are_refused(engine, tmp_path):
    Image.fromarray(scene(0)).save(tmp_path / "0.png")
    Image.fromarray(scene(1)[:50]).save(tmp_path / "1.png")
    outcomes = video.track(engine, tmp_path, [BOX])
    with pytest.raises(SourceError, match=r"frame 1 \(1\.png\) is 96x50, but the first one is 96x64"):
        list(outcomes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--jsonl=x.jsonl"], "give --prompts FILE, or --point and --box"),
        (["--box=1,1,9,9"], "nothing to write"),
        (["--box=1,1,9,9", "--overlay=x.avi"], "'x.avi' does not end in .mp4"),
        (["--box=1,1,9,9", "--export=x.gif"], "'x.gif' is no format's"),
        (["--box=1,1,9,9", "--export=no/x.txt"], "there is no folder no"),
        (["--box=1,1,9", "--jsonl=x.jsonl"], "'1,1,9' is not X1,Y1,X2,Y2"),
        (["--point=1", "--jsonl=x.jsonl"], "'1' is not X,Y"),
        (["--point=a,b", "--jsonl=x.jsonl"], "'a,b' is not X,Y"),
    ],
)
def test_wrong_options(folder, options, message):
    result = CliRunner().invoke(trackerd, ["track", str(folder), *options])
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    "option", ["--masks=there", "--jsonl=there.jsonl", "--export=there.jsonl", "--overlay=there.mp4"]
)
def test_nothing_is_written_over_unasked(folder, tmp_path, monkeypatch, option):
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    for name in ("there/00000.png", "there.jsonl", "there.mp4"):
        Path(name).touch()
    result = CliRunner().invoke(trackerd, ["track", str(folder), "--box=1,1,9,9", option])
    assert result.exit_code == 2
    assert "is there already: remove it, or choose another name, or give --overwrite" in " ".join(
        result.stderr.split()
    )
    assert not any(path.stat().st_size for path in tmp_path.rglob("*.*"))


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["track", "in"], ["--masks=in"]),
        (["track", "in"], ["--masks=link"]),
        (["track", "in"], ["--export=davis=./in"]),
        (["track", "clip.mp4"], ["--overlay=clip.mp4"]),
        (["track", "clip.mp4"], ["--overlay=hard.mp4"]),
        (["track", "clip.mp4"], ["--masks=new", "--export=new"]),
        (["track", "clip.mp4"], ["--masks=new", "--export=in/../new"]),
        (["segment", "in"], ["--masks=in"]),
        (["segment", "in/a.png"], ["--overlays=in"]),
        (["segment", "in"], ["--masks=new", "--overlays=link/../new"]),
        (["segment", "in/a.png", "in/a.jpg"], ["--masks=new"]),
        (["frame", "in"], ["-o", "in/a.png"]),
        (["frame", "in"], ["-o", "link/a.png"]),
    ],
)
def test_outputs_never_destroy_inputs_or_each_other(tmp_path, monkeypatch, command, options, overwrite):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("link").symlink_to("in")
    for name in ("in/a.png", "in/a.jpg", "clip.mp4"):
        Path(name).write_bytes(b"mine")
    os.link("clip.mp4", "hard.mp4")
    marks = [] if command[0] == "frame" else ["--box=1,1,9,9"]
    result = CliRunner().invoke(trackerd, [*command, *marks, *options, *overwrite])
    assert result.exit_code != 0
    assert {path.read_bytes() for path in tmp_path.rglob("*.*")} == {b"mine"}
    assert not Path("new").exists()


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.txt", "a.mp4"])
def test_a_full_disk_is_named(checkpoint, folder, tmp_path, name):
    full = tmp_path / name
    full.symlink_to("/dev/full")
    option = "--overlay" if name.endswith("mp4") else "--export"
    command = ["track", str(folder), "--box=20,20,48,44", f"{option}={full}", "--overwrite", "--image-size=128"]
    with pytest.raises((OSError, SourceError)) as caught:
        CliRunner().invoke(trackerd, [*command, f"--checkpoint={checkpoint}"], catch_exceptions=False)
    assert str(full) in str(caught.value)


def test_overwrite_writes_over_and_the_end_is_told(checkpoint, folder, tmp_path):
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text("before")
    command = ["track", str(folder), "--box=20,20,48,44", f"--export={jsonl}", "--overwrite", "--image-size=128"]
    result = CliRunner().invoke(trackerd, [*command, f"--checkpoint={checkpoint}"], catch_exceptions=False)
    assert len(list(read_json_lines(jsonl))) == FRAMES
    assert re.search(rf"^{FRAMES} frames in [\d.]+ s, [\d.]+ a second; 1 object, ", result.stdout)
    assert result.stdout.endswith(f"written: {jsonl}\n")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("broken.mp4", ["--box=1,1,9,9"]),
        ("broken.mp4", ["--everything"]),
        ("empty", ["--box=1,1,9,9"]),
        ("frames", ["--prompts=prompts.yaml"]),
        ("frames", ["--box=1,1,9,9", "--export=x.gif"]),
    ],
)
def test_input_is_looked_at_before_torch_is_loaded(folder, tmp_path, name, options):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "prompts.yaml").write_text("[{object: 0}]")
    (tmp_path / "empty").mkdir()
    (tmp_path / "frames").symlink_to(folder)
    program = f"""
import sys
from tracker.cli.trackerd import trackerd
try: trackerd(["track", {name!r}, "--jsonl=a.jsonl", *{options!r}], standalone_mode=False)
except Exception as error: print(type(error).__name__, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["False"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model=nanno"], "did you mean 'nano'?"),
        (["--device=cuda:77"], "model.device: 'cuda:77'"),
        (["--checkpoint=/none.pt"], "model.checkpoint: there is no file /none.pt"),
        (["--masks=m", "--object=256"], "ids go up to 255"),
    ],
)
def test_errors_are_one_line_and_exit_status_1(folder, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "sys.argv", ["trackerd", "track", str(folder), "--box=1,1,9,9", "--jsonl=x.jsonl", *options]
    )
    with pytest.raises(SystemExit, match="1"):
        main()
    error = capsys.readouterr().err.strip()
    assert error.startswith("trackerd: ")
    assert message in error
    assert "\n" not in error
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_one_picture_is_no_video(engine, folder):
    with pytest.raises(
        SourceError, match="is one picture: give the folder of all of them, or use `trackerd segment`"
    ):
        video.track(engine, folder / "00000.jpg", [BOX])


def test_torchvision_of_another_torch_is_named(folder, monkeypatch, capsys):
    broken = Mock(side_effect=RuntimeError("operator torchvision::nms does not exist"))
    monkeypatch.setattr("tracker.cli.options.ModelOptions.load", broken)
    monkeypatch.setattr("sys.argv", ["trackerd", "track", str(folder), "--box=1,1,9,9", "--jsonl=x.jsonl"])
    with pytest.raises(SystemExit, match="1"):
        main()
    error = capsys.readouterr().err.strip()
    assert error.startswith("trackerd: torch and torchvision do not fit together: install both")
    assert error.endswith("with uv sync")


def test_models_are_listed():
    output = CliRunner().invoke(trackerd, ["models", "list"], env={"COLUMNS": "160"}).output
    assert all(name in output for name in zoo.names())
    assert "image_size  352" in CliRunner().invoke(trackerd, ["models", "show", "nano"]).output
