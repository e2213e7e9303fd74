"""Files that are not what they say: of unknown length, joined, of changing size, with oblong pixels."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image as Pil

from helpers import videos
from tracker.cli.trackerd import trackerd
from tracker.config import EngineConfig
from tracker.engine.engine import Engine
from tracker.engine.models import build, zoo
from tracker.errors import BadPrompt, SourceError
from tracker.exports import FrameResult, OverlayVideo
from tracker.images.imaging import to_rgb
from tracker.images.video_writer import VideoWriter
from tracker.offline import video
from tracker.offline.entries import PromptEntry, in_decoded_pixels
from tracker.streams import sources


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(3)
    return Engine(build.Model("nano", build.network(zoo.config_path("nano"), 128)), EngineConfig())


def uneven(path: Path, count: int) -> Path:
    """A film that begins with one picture in 2 s, and then has 50 a second: by its first rate it is short."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(1, 2))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for index, planes in enumerate(videos.moving(count)):
            frame = videos.frame_of(planes)
            frame.pts, frame.time_base = 2000 + 20 * index if index else 0, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def joined(path: Path, *sizes_wh: tuple[int, int]) -> Path:
    """Recordings of ten frames, one after the other in one transport stream; each begins at the same time."""
    parts = [videos.write(path.with_name(f"{i}.ts"), videos.moving(10, size)) for i, size in enumerate(sizes_wh)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_an_estimate_of_the_length_refuses_nothing(engine, tmp_path):
    path = uneven(tmp_path / "a.mkv", 40)
    with sources.open_path(path) as opened:
        assert opened.estimate is None or opened.estimate < 30
    outcomes = list(video.track(engine, path, [PromptEntry(object=1, frame=35, box=(30, 4, 50, 40))]))
    assert len(outcomes) == 40
    assert [bool(outcome.masks) for outcome in outcomes] == [False] * 35 + [True] * 5


def test_the_end_of_decoding_refuses_what_was_never_reached(engine, tmp_path):
    """Of a film whose last picture counts as one until it is decoded."""
    path = videos.write(tmp_path / "a.mkv", videos.moving(10), "mjpeg", "yuvj420p", full_range=True)
    whole = path.read_bytes()
    begin, end = whole.rfind(b"\xff\xd8"), whole.rfind(b"\xff\xd9")  # of a JPEG
    path.write_bytes(whole[:begin] + bytes(end - begin) + whole[end:])
    outcomes = video.track(engine, path, [PromptEntry(object=1, frame=9, box=(30, 4, 50, 40))])
    with pytest.raises(BadPrompt, match="object 1, frame 9: it has 9 frames"):
        list(outcomes)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_video_that_changes_its_size_is_scaled_to_its_first(engine, tmp_path, reverse):
    path = joined(tmp_path / "a.ts", (64, 48), (32, 24))
    entry = PromptEntry(object=1, frame=15 if reverse else 0, box=(30, 4, 50, 40))
    outcomes = list(video.track(engine, path, [entry], reverse=reverse))
    assert len(outcomes) == 20
    assert {outcome.frame.size_wh for outcome in outcomes} == {(64, 48)}
    assert all(list(outcome.masks) == [1] for outcome in outcomes)


def test_pictures_of_a_folder_must_be_of_one_size(engine, tmp_path):
    """Their masks lie beside them, so that these must fit."""
    for name, size_wh in (("0.png", (64, 48)), ("1.png", (32, 24))):
        Pil.new("RGB", size_wh).save(tmp_path / name)
    outcomes = video.track(engine, tmp_path, [PromptEntry(object=1, box=(10, 4, 30, 40))])
    with pytest.raises(SourceError, match=r"frame 1 \(1\.png\) is 32x24, but the first one is 64x48"):
        list(outcomes)


@pytest.mark.parametrize("whole", [True, False])
def test_damaged_frames_are_counted_in_the_last_line(tmp_path, whole):
    rng = np.random.default_rng(0)
    noise = [
        (rng.integers(0, 255, (48, 64), np.uint8), *videos.flat((0, 128, 128), (64, 48))[1:]) for _ in range(8)
    ]
    path = videos.write(tmp_path / "a.ts", noise)
    if not whole:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    damaged = sum(frame.corrupt for frame in sources.frames(path))
    options = ["--box", "9,9,40,40", "--image-size", "128", "--jsonl", str(tmp_path / "a.jsonl")]
    result = CliRunner().invoke(trackerd, ["track", str(path), *options])
    assert result.exit_code == 0, result.output
    assert bool(damaged) != whole
    assert ("; 1 frame damaged; written" in result.output) != whole


def overlay_of(path: Path, out: Path) -> Path:
    with sources.open_path(path) as opened:
        overlay = OverlayVideo(out, opened.fps or 25, opened.pixel_aspect)
    for frame in sources.frames(path):
        overlay.write(to_rgb(frame.image), FrameResult(frame.index, frame.size_wh, [], frame.pts))
    overlay.close()
    return out


def test_the_overlay_of_two_recordings_that_were_joined_keeps_both_their_times(tmp_path):
    out = overlay_of(joined(tmp_path / "a.ts", (64, 48), (64, 48)), tmp_path / "overlay.mp4")
    times_s = [frame.pts for frame in sources.frames(out)]
    assert len(times_s) == 20
    gaps_s = [after - before for before, after in pairwise(times_s)]
    assert gaps_s == pytest.approx([1 / 25] * 19, abs=0.002)


def test_the_overlay_keeps_uneven_times(tmp_path):
    out = overlay_of(uneven(tmp_path / "a.mkv", 5), tmp_path / "overlay.mp4")
    times_s = [frame.pts for frame in sources.frames(out)]
    assert times_s == pytest.approx([0, 2.02, 2.04, 2.06, 2.08], abs=0.002)


@pytest.mark.parametrize("leap_s", [6 * 3600, 7 * 3600, 1.8e9])
def test_the_overlay_goes_on_after_a_leap_of_the_clock(tmp_path, leap_s):
    """Up to 6.6 hours are kept; MP4 cannot hold more, and all pictures from there on would be shown at once."""
    out = tmp_path / "overlay.mp4"
    with VideoWriter(out, (64, 48), 25) as film:
        for index in range(10):
            film.write(np.zeros((48, 64, 3), np.uint8), index / 25 + leap_s * (index >= 5))
    times_s = [frame.pts for frame in sources.frames(out)]
    kept_s = leap_s if leap_s < 6.6 * 3600 else 0
    assert times_s == pytest.approx([index / 25 + kept_s * (index >= 5) for index in range(10)], abs=0.002)


def test_the_overlay_keeps_the_shape_of_pixels(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for _ in range(3):
            container.mux(stream.encode(videos.frame_of(videos.flat((90, 128, 128), (64, 48)))))
        container.mux(stream.encode(None))
    out = overlay_of(path, tmp_path / "overlay.mp4")
    with sources.open_path(out) as opened:
        assert (opened.pixel_aspect, opened.size_wh) == (2, (64, 48))
    assert np.abs(to_rgb(next(iter(sources.frames(out))).image).astype(int) - 86).max() < 12


@pytest.mark.parametrize(
    ("aspect", "x_factor"),
    [(Fraction(2), 0.5), (Fraction(1, 2), 2.0), (Fraction(1), 1.0)],
)
def test_marks_on_what_a_player_shows_are_taken_back_to_decoded_pixels(aspect, x_factor):
    clicked = PromptEntry(object=1, points=[(40, 10)], labels=[1])
    boxed = PromptEntry(object=2, frame=3, box=(8, 10, 40, 30))
    assert in_decoded_pixels(clicked, aspect).points == [(40 * x_factor, 10)]
    assert in_decoded_pixels(boxed, aspect).box == (8 * x_factor, 10, 40 * x_factor, 30)
    assert in_decoded_pixels(boxed, aspect).frame == 3
