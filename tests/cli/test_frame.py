"""`trackerd frame`: the frame that was asked for, in the pixels that prompts count."""

import os
from fractions import Fraction
from pathlib import Path

import av
import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image as Pil

from helpers import videos
from tracker.cli.outputs import check_paths
from tracker.cli.trackerd import trackerd
from tracker.errors import SourceError
from tracker.images.stills import read_still

FRAMES = 10


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return videos.write(tmp_path_factory.mktemp("clips") / "clip.mp4", videos.moving(FRAMES), crf="1")


@pytest.fixture(scope="module")
def wide(tmp_path_factory) -> Path:
    """A film whose pixels are twice as wide as high."""
    path: Path = tmp_path_factory.mktemp("clips") / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        container.mux(stream.encode(videos.frame_of(videos.flat((90, 128, 128), (64, 48)))))
        container.mux(stream.encode(None))
    return path


def frame(*args: object) -> Result:
    return CliRunner().invoke(trackerd, ["frame", *map(str, args)])


@pytest.mark.parametrize("index", [0, 4, FRAMES - 1])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_frame_that_was_asked_for(clip, tmp_path, index, suffix):
    path = tmp_path / f"x{suffix}"
    assert frame(clip, "--frame", index, "-o", path).exit_code == 0
    rgb_hwc = read_still(path)
    assert rgb_hwc.shape == (48, 64, 3)
    assert videos.number_of(rgb_hwc[..., 1]) == index


def test_of_a_folder_in_natural_order(tmp_path):
    for index in range(11):
        Pil.new("RGB", (8, 6), (20 * index, 0, 0)).save(tmp_path / f"f_{index}.png")
    assert frame(tmp_path, "--frame", 10, "-o", tmp_path / "out.png").exit_code == 0
    assert np.array_equal(read_still(tmp_path / "out.png"), read_still(tmp_path / "f_10.png"))


@pytest.mark.parametrize(("flags", "width"), [([], 64), (["--display"], 128)])
def test_pixels_that_are_not_square(wide, tmp_path, flags, width):
    assert frame(wide, "-o", tmp_path / "x.png", *flags).exit_code == 0
    assert read_still(tmp_path / "x.png").shape == (48, width, 3)


def test_nothing_is_written_over_unasked(clip, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"mine")
    refused = frame(clip, "-o", path)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "x.png is there already: remove it, or choose another name, or give --overwrite" in said
    assert path.read_bytes() == b"mine"
    assert frame(clip, "-o", path, "--overwrite").exit_code == 0
    assert read_still(path).shape == (48, 64, 3)


@pytest.mark.parametrize(
    "command", [["frame", "-o", "x.png"], ["track", "--jsonl", "x.jsonl"], ["segment", "--everything"]]
)
def test_an_address_is_no_file_and_its_password_is_not_repeated(command):
    refused = CliRunner().invoke(trackerd, [*command, "rtsp://viewer:sesame@10.0.0.7/live"])
    assert refused.exit_code != 0
    assert "sesame" not in refused.output
    assert "is an address" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    ("command", "name"),
    [(["frame", "-o", "x.png"], "pipe"), (["track", "--point=1,1", "--jsonl=x.jsonl"], "pipe.mp4")],
)
def test_a_pipe_is_refused_before_it_is_opened(tmp_path, monkeypatch, command, name):
    monkeypatch.chdir(tmp_path)
    os.mkfifo(name)
    refused = CliRunner().invoke(trackerd, [*command, name]).exception
    assert isinstance(refused, SourceError)
    assert f"{name}: is a pipe, a socket or a device" in str(refused)


def test_two_commands_do_not_write_to_one_place(clip, tmp_path):
    path = tmp_path / "x.png"
    with click.Context(click.Command("other")):
        check_paths([path])
        refused = frame(clip, "-o", path, "--overwrite")
        assert refused.exit_code == 2
        assert "x.png is being written by another command" in " ".join(refused.stderr.split())
    assert frame(clip, "-o", path).exit_code == 0


def test_refusals(clip, tmp_path):
    late = frame(clip, "--frame", FRAMES, "-o", tmp_path / "x.png").exception
    assert isinstance(late, SourceError)
    assert f"frame {FRAMES}: it has {FRAMES} frames, counted from 0" in str(late)
    unknown = frame(clip, "-o", tmp_path / "x.gif")
    assert unknown.exit_code == 2
    assert "does not end in .png or .jpg or .jpeg" in unknown.stderr


def test_a_number_beyond_all_frames_is_refused(clip, tmp_path):
    refused = frame(clip, "--frame", 10**30, "-o", tmp_path / "x.png")
    assert isinstance(refused.exception, SourceError)
    assert f"frame {10**30}: it has {FRAMES} frames, counted from 0" in str(refused.exception)
