"""`trackctl record`: every format from a live stream, what is left after Ctrl-C and after SIGKILL, and what goes
wrong meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import structs
from PIL import Image
from pycocotools.coco import COCO

from helpers.fake_daemon import OBJECT, STREAM, FakeDaemon, tracks
from helpers.tracking import SIZE_WH, Talk, blobs, configuration, serving, wait_until
from helpers.waiting import in_background
from tracker.cli.outputs import FORMATS
from tracker.cli.recorder import Exported, PlainFrames, Recorder, index_path
from tracker.cli.trackctl import main
from tracker.client.messages import Message
from tracker.exports import WRITERS, mask_of_record, read_json_lines
from tracker.images.imaging import encode_jpeg, to_rgb
from tracker.images.video_writer import VideoWriter
from tracker.protocol import messages, replies
from tracker.streams import sources

# pycocotools is not yet up to date with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RESTING = [120, 90]
RED = (230, 25, 75)  # how object 1 is drawn


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("video") / "blobs.mp4")


@pytest.fixture
def talk(video: Path) -> Iterator[Talk]:
    """A daemon that follows the resting square on a looped file."""
    publish = {"masks": "rle", "outline_tolerance_px": 0}
    with serving(configuration(streams={"cam1": {"url": str(video), "loop": True}}, publish=publish)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam1", points=[RESTING], label="box")
        yield talk


def record(control: str, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--control", control, "record", "cam1", *map(str, arguments)])


@contextmanager
def recording(talk: Talk, *arguments: object) -> Iterator["subprocess.Popen[bytes]"]:
    """The command in a process of its own, which has begun."""
    command = [sys.executable, "-c", "from tracker.cli.start import trackctl; trackctl()", "record", "cam1"]
    environment = {**os.environ, "TRACKER_CONTROL": talk.daemon.control.endpoint}
    with subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stderr is not None
            assert b"recording cam1" in process.stderr.readline()
            yield process
        finally:
            process.kill()


def frames_of(path: Path) -> list[np.ndarray]:
    return [to_rgb(frame.image) for frame in sources.frames(path)]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("size", [None, (64, 64)], ids=["as decoded", "at another size"])
def test_a_recording_is_shown_in_the_shape_of_its_source(tmp_path: Path, size: tuple[int, int] | None) -> None:
    with VideoWriter(tmp_path / "wide.mp4", (64, 48), 25, Fraction(16, 11)) as film:
        film.write(np.zeros((48, 64, 3), np.uint8))
    stream = {"url": str(tmp_path / "wide.mp4"), "loop": True, "size": size}
    paths = [tmp_path / "plain.mp4", tmp_path / "overlay.mp4"]
    with serving(configuration(streams={"cam1": stream})) as talk:
        talk.wait_for_frame(0)
        media = ["--video", paths[0], "--overlay", paths[1], "--count", 2]
        assert record(talk.daemon.control.endpoint, *media).exit_code == 0
    for path in paths:
        with sources.open_path(path) as recorded:
            w, h = recorded.size_wh
            assert recorded.pixel_aspect * w / h == Fraction(16, 11) * 64 / 48


def test_every_format_holds_the_same_frames(talk: Talk, tmp_path: Path, capsys: Any) -> None:
    paths = {name: tmp_path / f"{name}{ending}" for name, ending in FORMATS.items()}
    assert list(paths) == list(WRITERS)
    exports = [word for name, path in paths.items() for word in ("--export", f"{name}={path}")]
    overlay, plain, folder = tmp_path / "overlay.mp4", tmp_path / "plain.mp4", tmp_path / "frames"
    media = ["--overlay", overlay, "--video", plain, "--frames", folder]
    result = record(talk.daemon.control.endpoint, *exports, *media, "--count", 10)
    assert result.exit_code == 0, result.output
    assert "10 frames of cam1 recorded, 0 missed" in result.output
    assert "1 object, none lost in the end" in result.output
    assert str(plain) in result.output
    read = list(read_json_lines(paths["jsonl"]))
    numbers = list(range(10))
    assert [r.frame for r in read] == numbers
    captured = [r.capture for r in read if r.capture is not None]
    assert len(captured) == 10
    assert captured == sorted(set(captured))
    mask_hw = mask_of_record(read[-1].objects[0], SIZE_WH)
    assert mask_hw[90, 120]
    for name in ("coco", "coco-polygons"):
        coco = COCO(paths[name])
        assert coco.getImgIds() == [number + 1 for number in numbers]
        assert len(coco.getAnnIds()) == 10
        images = coco.loadImgs(coco.getImgIds())
        assert [image["file_name"] for image in images] == sorted(path.name for path in folder.iterdir())
        assert [image["capture"] for image in images] == captured
        assert np.array_equal(coco.annToMask(coco.loadAnns(coco.getAnnIds())[-1]), mask_hw)
    pictures = sorted(paths["davis"].iterdir())
    assert [int(picture.stem) for picture in pictures] == numbers
    with Image.open(pictures[-1]) as picture:
        assert np.array_equal(np.asarray(picture) == 1, mask_hw)
    assert [int(row.split(",")[0]) - 1 for row in lines_of(paths["mot"])] == numbers
    polygons = ET.parse(paths["cvat"]).getroot().iterfind("track/polygon")
    assert [int(polygon.get("frame", "")) for polygon in polygons] == numbers
    for name, first in (("mot", 1), ("cvat", 0), ("davis", 0)):
        rows = [row.split(",") for row in lines_of(index_path(paths[name]))]
        assert rows[0] == ["frame", "capture", "time"]
        assert [(int(row[0]), int(row[1])) for row in rows[1:]] == [(n + first, c) for n, c in enumerate(captured)]
    drawn = frames_of(overlay)
    assert len(drawn) == len(frames_of(plain)) == 10
    for number, rgb_hwc in enumerate(frames_of(plain)):  # the resting square is white, and so it is in the JPEGs
        with Image.open(folder / f"{number:05d}.jpg") as picture:
            assert np.abs(np.asarray(picture, int) - rgb_hwc).mean() < 4
        assert (rgb_hwc[85:95, 115:125] > 200).all()
    assert (drawn[-1][85:95, 115:125, 0] > drawn[-1][85:95, 115:125, 1] + 40).all()  # white, tinted in red
    capsys.readouterr()


def test_all_files_are_complete_after_ctrl_c(talk: Talk, tmp_path: Path, capsys: Any) -> None:
    jsonl, coco, overlay = tmp_path / "a.jsonl", tmp_path / "a.json", tmp_path / "a.mp4"
    with recording(talk, "--export", f"jsonl={jsonl}", "--export", f"coco={coco}", "--overlay", overlay) as process:
        wait_until(lambda: len(lines_of(jsonl)) > 3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")
    read = list(read_json_lines(jsonl))
    assert len(COCO(coco).getImgIds()) == len(read) == len(frames_of(overlay))
    capsys.readouterr()


def test_ctrl_c_is_obeyed_while_a_daemon_that_is_gone_is_asked(daemon: FakeDaemon, tmp_path: Path) -> None:
    """Whatever patience the person has who records: here an hour, in which the daemon may still answer."""
    command = [sys.executable, "-c", "from tracker.cli.start import trackctl; trackctl()", "--timeout", "3600"]
    command += ["record", "cam1", f"--export=jsonl={tmp_path / 'a.jsonl'}"]
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        try:
            assert process.stderr is not None
            assert b"recording cam1" in process.stderr.readline()
            daemon.answers["streams.list"] = None  # no reply
            while not daemon.asked.empty():
                daemon.asked.get()
            assert daemon.asked.get(timeout=60).op == "streams.list"
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_and_when_it_is_told_to_end_in_other_ways(talk: Talk, tmp_path: Path, capsys: Any, number: int) -> None:
    jsonl, coco = tmp_path / "a.jsonl", tmp_path / "a.json"

    def signal_when_at_work() -> None:
        wait_until(lambda: len(lines_of(jsonl)) > 3)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=signal_when_at_work)
    outside = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have it ignored, as nohup does
    try:
        thread.start()
        result = record(talk.daemon.control.endpoint, f"--export=jsonl={jsonl}", f"--export=coco={coco}")
        thread.join()
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, outside)
    assert result.exit_code == 0, result.output
    assert len(COCO(coco).getImgIds()) == len(lines_of(jsonl))
    capsys.readouterr()


def test_what_was_written_outlives_sigkill(talk: Talk, tmp_path: Path) -> None:
    jsonl, mot, davis, overlay = (tmp_path / name for name in ("a.jsonl", "a.txt", "masks", "a.mp4"))
    exports = [f"--export={name}={path}" for name, path in (("jsonl", jsonl), ("mot", mot), ("davis", davis))]
    with recording(talk, *exports, "--overlay", overlay) as process:
        wait_until(lambda: overlay.exists() and b"moof" in overlay.read_bytes())  # a fragment of 2 s
        process.kill()
    read = list(read_json_lines(jsonl))
    assert len(read) >= 40
    assert len(read) - 1 <= len(lines_of(mot)) <= len(read) + 1
    for path in sorted(davis.iterdir())[:-1]:  # the last one may have been at work
        with Image.open(path) as image:
            image.load()
    assert len(frames_of(overlay)) >= 40


# ------------------------------------------------------------------------------------- what a stream may come to


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def tracked(frame: int, size: tuple[int, int] = (64, 48), **object_fields: Any) -> messages.Tracks:
    fields = {"box": (8, 8, 40, 40), "area": 1024, "outline": [[[8, 8, 40, 8, 40, 40, 8, 40]]], "object": 1}
    objects = [structs.replace(OBJECT, **fields | object_fields)]
    return tracks(frame, objects=objects, size=size, mono_ns=frame * 100_000_000)


def picture(frame: int, size: tuple[int, int] = (64, 48)) -> messages.FrameMessage:
    return messages.FrameMessage(stream="cam1", frame=frame, time=1.0, size=size, format="jpeg")


@contextmanager
def published(daemon: FakeDaemon, messages: list[tuple[str, Any, bytes | None]]) -> Iterator[None]:
    """All of them, once somebody listens; then the last one again and again."""

    def publish(done: threading.Event) -> None:
        topics = {topic for topic, _, _ in messages}
        wait_until(lambda: all(map(daemon.publisher.wanted, topics)) or done.is_set())
        for topic, body, image in messages:
            daemon.publisher.publish(topic, body, image)
        while not done.wait(0.05):
            daemon.publisher.publish(*messages[-1])

    with in_background(publish):
        yield


def grey_jpeg(size_wh: tuple[int, int]) -> bytes:
    return encode_jpeg(np.full((size_wh[1], size_wh[0], 3), 120, np.uint8))


def test_pictures_are_scaled_and_a_video_keeps_its_size_when_the_camera_changes_it(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    big = {"size": (640, 480), "box": (80, 80, 400, 400), "outline": [[[80, 80, 400, 80, 400, 400, 80, 400]]]}
    sizes: list[dict[str, Any]] = [{"size": (64, 48)}, {"size": (64, 48)}, big]
    messages: list[tuple[str, Any, bytes | None]] = []
    for frame, fields in enumerate(sizes):
        messages.append(("tracks/cam1/", tracked(frame, **fields), None))
        messages.append(("frames/cam1/320/", picture(frame), grey_jpeg((32, 24) if frame < 2 else (320, 240))))
    messages.append(("frames/cam1/320/", picture(77), grey_jpeg((32, 24))))  # of which no tracks are known
    messages.append(("tracks/cam1/", tracked(78), None))
    with published(daemon, messages):
        result = record(
            daemon.control.endpoint, "--overlay", tmp_path / "a.mp4", "--width", 320, "--count", len(sizes)
        )
    assert result.exit_code == 0, result.output
    drawn = frames_of(tmp_path / "a.mp4")
    assert [rgb_hwc.shape for rgb_hwc in drawn] == [(24, 32, 3)] * 3
    for rgb_hwc in drawn:
        assert rgb_hwc[12, 12, 0] > rgb_hwc[12, 12, 1] + 30
        assert abs(int(rgb_hwc[2, 28, 0]) - int(rgb_hwc[2, 28, 1])) < 12


def test_a_camera_whose_rate_is_not_known_yet_is_recorded(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["streams.list"] = replies.StreamList(
        streams=[structs.replace(STREAM, state="connecting", fps=0.0)]
    )
    messages: list[tuple[str, Any, bytes | None]] = [
        ("tracks/cam1/", tracked(0), None),
        ("frames/cam1/full/", picture(0), grey_jpeg((64, 48))),
    ]
    with published(daemon, messages):
        result = record(daemon.control.endpoint, "--video", tmp_path / "a.mp4", "--count", 1)
    assert result.exit_code == 0, result.output
    assert [rgb_hwc.shape for rgb_hwc in frames_of(tmp_path / "a.mp4")] == [(48, 64, 3)]


def test_a_daemon_that_starts_again_writes_nothing_over(tmp_path: Path) -> None:
    recorder, masks = Recorder(), tmp_path / "masks"
    recorder.outputs[masks] = Exported("davis", masks)
    for instance, frame in (("a", 3), ("a", 5), ("b", 0), ("b", 1), ("c", 0)):
        recorder.take(Message("tracks/cam1/", structs.replace(tracked(frame), instance=instance)))
    recorder.close()
    assert sorted(int(path.stem) for path in masks.iterdir()) == [0, 1, 2, 3, 4]
    assert [row.split(",")[1] for row in lines_of(index_path(masks))] == ["capture", "3", "5", "0", "1", "0"]


def test_frames_without_a_picture_are_left_out_of_all_outputs_and_counted(tmp_path: Path) -> None:
    recorder, jsonl, folder = Recorder(pictures=True), tmp_path / "a.jsonl", tmp_path / "frames"
    recorder.outputs = {jsonl: Exported("jsonl", jsonl), folder: PlainFrames(folder)}
    jpeg = grey_jpeg((64, 48))
    for frame in range(100):
        recorder.take(Message("tracks/cam1/", tracked(frame)))
        if frame % 2:
            recorder.take(Message("frames/cam1/full/", picture(frame), jpeg))
    recorder.close()
    assert [json.loads(line)["capture"] for line in lines_of(jsonl)] == list(range(1, 100, 2))
    assert sorted(int(path.stem) for path in folder.iterdir()) == list(range(50))
    assert recorder.frames == 50
    assert recorder.missed == 0  # KEPT frames may still come
    for frame in range(100, 164):
        recorder.take(Message("tracks/cam1/", tracked(frame)))
    assert recorder.missed == 50


def test_pictures_and_what_is_on_them_keep_one_size(tmp_path: Path) -> None:
    recorder, jsonl, folder = Recorder(pictures=True, one_size=True), tmp_path / "a.jsonl", tmp_path / "frames"
    recorder.outputs = {jsonl: Exported("jsonl", jsonl), folder: PlainFrames(folder)}
    big = {
        "size": (128, 96),
        "box": (16, 16, 80, 80),
        "area": 4096,
        "outline": [[[16, 16, 80, 16, 80, 80, 16, 80]]],
    }
    changes: list[dict[str, Any]] = [{}, big]
    for frame, fields in enumerate(changes):
        body = tracked(frame, **fields)
        recorder.take(Message("tracks/cam1/", body))
        recorder.take(Message("frames/cam1/full/", picture(frame, body.size), grey_jpeg(body.size)))
    recorder.close()
    assert recorder.resized == 1
    first, second = read_json_lines(jsonl)
    assert first.size_wh == second.size_wh == (64, 48)
    assert first.objects == second.objects
    for path in folder.iterdir():
        with Image.open(path) as image:
            assert image.size == (64, 48)


def test_one_file_that_fails_does_not_end_the_others(daemon: FakeDaemon, tmp_path: Path) -> None:
    large = tracked(1, object=256)
    messages: list[tuple[str, Any, bytes | None]] = [
        ("tracks/cam1/", body, None) for body in (tracked(0), large, tracked(2))
    ]
    jsonl, davis = tmp_path / "a.jsonl", tmp_path / "masks"
    with published(daemon, messages):
        exports = [f"--export=jsonl={jsonl}", f"--export=davis={davis}"]
        result = record(daemon.control.endpoint, *exports, "--count", 3)
    assert result.exit_code == 1
    assert f"{davis}: ends here: object 256: in indexed PNGs ids go up to 255" in result.stderr
    assert f"not everything was written: {davis}" in result.stderr
    assert [json.loads(line)["frame"] for line in lines_of(jsonl)] == [0, 1, 2]
    assert [path.name for path in davis.iterdir()] == ["00000.png"]
    assert f"{davis}\n" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "nothing to write: give --export, --video, --frames or --overlay"),
        (["--export", "a.gif"], 2, "'a.gif' is no format's; the ending tells the format"),
        (["--export", "gif=a.gif"], 2, "'gif=a.gif' is no format's"),
        (["--export", "jsonl="], 2, "'jsonl=' is no format's"),
        (["--export", "jsonl=a.txt"], 2, "'jsonl=a.txt': what jsonl writes has to end in .jsonl"),
        (["--export", "davis=a.png"], 2, "'davis=a.png': what davis writes has to be a folder, without an ending"),
        (["--overlay", "a.avi"], 2, "'a.avi' does not end in .mp4"),
        (["--video", "a.mp4", "--width", "320"], 2, "--width is of --overlay alone"),
        (["--export", "new", "--export", "new.txt", "--frames", "there"], 2, "there is there already"),
        (["--export", "jsonl=there.jsonl"], 2, "there.jsonl is there already: remove it, or choose another name"),
        (["--export", "davis=there"], 2, "there is there already"),
        (["--export", "masks"], 2, "masks.frames.csv is there already"),
        (["--video", "a.mp4", "--overlay", "a.mp4"], 2, "a.mp4 is given twice"),
        (["--overlay", "no/such/a.mp4"], 2, "there is no folder no/such"),
        (["--export", "jsonl=a.jsonl", "--width", "77", "--overlay", "a.mp4"], 2, "'77' is not one of"),
    ],
)
def test_what_cannot_be_recorded_is_refused_before_anything_is_written(
    daemon: FakeDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    Path("there/00001.png").touch()
    Path("there.jsonl").touch()
    Path("masks.frames.csv").touch()
    result = record(daemon.control.endpoint, *arguments)
    assert (result.exit_code, said in " ".join(result.stderr.split())) == (code, True), result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["masks.frames.csv", "there", "there.jsonl"]


def test_a_stream_that_is_not_there_is_refused(daemon: FakeDaemon, tmp_path: Path) -> None:
    daemon.answers["streams.list"] = replies.StreamList(streams=[])
    result = record(daemon.control.endpoint, f"--export=jsonl={tmp_path / 'a.jsonl'}")
    assert result.exit_code == 1
    assert "unknown_stream: stream: no stream is called 'cam1'; there: none" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named_and_is_no_fault_of_the_daemon(tmp_path: Path) -> None:
    recorder, jsonl = Recorder(), tmp_path / "a.jsonl"
    jsonl.symlink_to("/dev/full")
    recorder.outputs = {jsonl: Exported("jsonl", jsonl)}
    with pytest.raises(click.ClickException) as told:
        recorder.take(Message("tracks/cam1/", tracked(0)))
    assert told.value.message == f"nothing is left to write to: {jsonl} (No space left on device)"
