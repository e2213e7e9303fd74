"""What commands say of their outputs where one of them cannot be written."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner
from PIL import Image

from helpers import videos
from helpers.waiting import wait_until
from tracker.cli.outputs import naming, say_done, saying_what_is_whole, write_whole
from tracker.cli.track_outputs import Outputs
from tracker.cli.trackerd import trackerd
from tracker.errors import SourceError


def write(path: Path) -> None:
    with path.open("w") as file:
        file.write("a line\n")


@pytest.mark.parametrize(
    ("full", "said"),
    [
        (("a.jsonl",), "whole as far as it went: {0}/b.txt, {0}/c.mp4\n"),
        (("a.jsonl", "c.mp4"), "whole as far as it went: {0}/b.txt\n"),
        (("a.jsonl", "b.txt", "c.mp4"), ""),
    ],
)
def test_on_a_full_disk_it_is_said_what_can_be_used(
    tmp_path: Path, full: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.txt", "c.mp4")]
    for name in full:
        (tmp_path / name).symlink_to("/dev/full")

    def write_all(left: list[Path]) -> None:
        """Each is tried, as files are closed one after the other."""
        if left:
            try:
                naming(left[0], lambda: write(left[0]))()
            finally:
                write_all(left[1:])

    with pytest.raises(OSError, match="No space left"), saying_what_is_whole(paths):
        write_all(paths)
    assert capsys.readouterr().err == said.format(tmp_path)


def test_what_was_never_begun_is_not_called_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, never = tmp_path / "a.jsonl", tmp_path / "b.mp4"
    write(begun)
    with pytest.raises(SourceError), saying_what_is_whole([begun, never]):
        raise SourceError("no picture")
    assert capsys.readouterr().err == f"whole as far as it went: {begun}\n"


def test_outputs_that_fail_only_when_they_are_closed_are_not_called_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coco, cvat, mot = (tmp_path / name for name in ("a.json", "a.xml", "a.txt"))
    for path in (coco, cvat):
        path.symlink_to("/dev/full")
    outputs = Outputs(None, None, None, [("cvat", cvat), ("coco", coco), ("mot", mot)], overwrite=True)
    with (
        pytest.raises(OSError, match="No space left"),
        saying_what_is_whole(outputs.paths),
        outputs.sinks(tmp_path),
    ):
        pass
    assert capsys.readouterr().err == f"whole as far as it went: {mot}\n"


def test_standard_output_that_is_full_is_named() -> None:
    command = [str(Path(sys.executable).with_name("trackerd")), "models", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr == "trackerd: standard output: No space left on device\n"


def test_a_file_that_cannot_be_written_whole_is_named_and_not_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, b"a picture")
    assert caught.value.filename == str(path)
    assert not path.is_symlink()


def test_what_cannot_be_opened_stays(tmp_path: Path) -> None:
    (tmp_path / "x.png").mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        write_whole(tmp_path / "x.png", b"a picture")
    assert caught.value.filename == str(tmp_path / "x.png")
    assert (tmp_path / "x.png").is_dir()


def test_a_frame_for_a_full_disk_says_which_file_it_was(tmp_path: Path) -> None:
    picture, out = tmp_path / "in.png", tmp_path / "out.png"
    Image.new("RGB", (8, 6)).save(picture)
    out.symlink_to("/dev/full")
    done = CliRunner().invoke(trackerd, ["frame", str(picture), "--overwrite", "-o", str(out)])
    assert isinstance(done.exception, OSError)
    assert done.exception.filename == str(out)


@pytest.mark.parametrize(("rate", "said"), [(24.06, "24.1 a second"), (0.037, "0.037 a second")])
def test_what_is_slow_has_a_rate_too(rate: float, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    say_done("2 pictures", 53.9, rate, [Path("seen")])
    assert capsys.readouterr().out == f"2 pictures in 53.9 s, {said}; written: seen\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_ended_by_a_signal_leaves_files_that_can_be_read(tmp_path: Path, number: signal.Signals) -> None:
    """And nothing of its own: tracking back in time spools pictures."""
    film = videos.write(tmp_path / "film.mkv", videos.moving(3000), "ffv1")  # it never gets to its end
    lines, coco, cvat, spools = (tmp_path / name for name in ("a.jsonl", "a.json", "a.xml", "spools"))
    spools.mkdir()
    # A shell may have Ctrl-C ignored in what it runs in the background, and nohup has SIGHUP.
    command = [
        "env",
        "--default-signal=INT,HUP",
        str(Path(sys.executable).with_name("trackerd")),
        "track",
        str(film),
    ]
    options = ["--box", "5,5,30,40", "--frame", "9", "--reverse", "--image-size", "128", "--jsonl", str(lines)]
    process = subprocess.Popen(
        [*command, *options, "--export", f"coco={coco}", "--export", f"cvat={cvat}"],
        env={**os.environ, "TMPDIR": str(spools)},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: lines.exists() and lines.stat().st_size > 0, 120)
        assert list(spools.iterdir())
        process.send_signal(number)
        assert process.wait(60) == 128 + number
    finally:
        process.kill()
        process.wait()
    written = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert written == list(range(len(written)))
    assert abs(len(json.loads(coco.read_text())["images"]) - len(written)) <= 1
    assert ET.parse(cvat).getroot().find("meta/task/size") is not None
    assert not list(spools.iterdir())
