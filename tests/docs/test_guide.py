"""docs/guide.md from top to bottom: every command, configuration and piece of Python in it, on a short pond."""

import io
import itertools
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from helpers.tracking import Talk, serving, wait_until
from pond import scene
from tracker import config
from tracker.cli.trackctl import main as trackctl
from tracker.cli.trackerd import trackerd
from tracker.config import ModelConfig
from tracker.engine.engine import Engine
from tracker.engine.models.build import load_model
from tracker.exports import mask_of_record, read_json_lines
from tracker.images.video_writer import VideoWriter
from tracker.masks.types import U8
from tracker.streams import sources

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guide.md").read_text()
BLOCK = re.compile(r"(?:as `([\w.]+)`:\n\n)?```(\w+)\n(.*?)```", re.DOTALL)
THERE = 10  # frames of the demo's film, shown there and back, so that nothing leaps where it begins again
FRAMES = 2 * THERE - 2
FPS = 6  # a machine with other work follows two objects at that, and catches up with what was marked in the past
PAD_XY = "305,215"

if not (ROOT / "tracker" / "models" / "nano.safetensors").exists():
    pytest.skip("the bundled weights are not there", allow_module_level=True)


class Reader:
    """Somebody who does what the guide says."""

    def __init__(self, truths: list[U8], stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: dict[str, str] = {}  # by each command line
        self._truths = truths
        self._stack = stack
        self._monkeypatch = monkeypatch
        self._talk: Talk | None = None

    def truth(self, frame: int) -> U8:
        """Which fish is at which pixel."""
        return self._truths[frame % FRAMES]

    def read(self, guide: str) -> None:
        for file, kind, text in BLOCK.findall(guide):
            {"yaml": self._save, "python": self._type, "sh": self._run}[kind](text, file)

    def _save(self, text: str, file: str) -> None:
        Path(file).write_text(text)

    def _type(self, text: str, _: str) -> None:
        with redirect_stdout(io.StringIO()) as said:
            exec(text.replace("Client()", f"Client({os.environ['TRACKER_CONTROL']!r})"), {})
        self.said["python"] = said.getvalue()

    def _run(self, text: str, _: str) -> None:
        programs = {"cp": self._cp, "python": self._python, "trackerd": self._trackerd, "trackctl": self._trackctl}
        for line in text.splitlines():
            program, *words = shlex.split(line)
            self.said[line] = programs[program](words)

    def _cp(self, words: list[str]) -> str:
        return str(shutil.copy(*words))

    def _python(self, words: list[str]) -> str:
        self._monkeypatch.setattr(sys, "argv", words)
        with redirect_stdout(io.StringIO()) as said:
            runpy.run_path(words[0], run_name="__main__")
        return said.getvalue()

    def _trackerd(self, words: list[str]) -> str:
        if words[-1] != "&":
            return _invoked(trackerd, words)
        serve, option, path, _ = words
        assert (serve, option) == ("serve", "-c")
        free = "{endpoint: 'tcp://127.0.0.1:*'}"
        text = Path(path).read_text() + f"control: {free}\npublish: {free}\n"
        self._talk = self._stack.enter_context(serving(config.parse(text), Engine(load_model(ModelConfig()))))
        self._monkeypatch.setenv("TRACKER_CONTROL", self._talk.daemon.control.endpoint)
        self._talk.wait_for_frame(10)
        return ""

    def _trackctl(self, words: list[str]) -> str:
        if "--frame" in words:
            words = list(self._aimed(words))
        if words[0] == "record":
            wait_until(self._all_visible)
            self._press_ctrl_c_when(lambda: len(_lines("pond.jsonl")) > 3)
        return _invoked(trackctl, words)

    def _aimed(self, words: list[str]) -> Iterator[str]:
        """The guide's frame stands for one that was just seen, and its places for where the fish is there."""
        assert self._talk is not None
        frame = self._talk.ask("streams.list")["streams"][0]["frame"] - 5
        y, x = np.nonzero(self.truth(frame) == (2 if {"gold", "2"} & set(words) else 1))
        seen = {"--frame": f"{frame}", "--box": f"{x.min()},{y.min()},{x.max() + 1},{y.max() + 1}"}
        for option, word in itertools.pairwise(["", *words]):
            if option == "--point":
                yield f"{PAD_XY},0" if word.endswith(",0") else f"{np.median(x)},{np.median(y)}"
            else:
                yield seen.get(option, word)

    def _all_visible(self) -> bool:
        assert self._talk is not None
        return {record["state"] for record in self._talk.ask("objects.list")["objects"]} == {"visible"}

    def _press_ctrl_c_when(self, condition: Callable[[], bool]) -> None:
        def press() -> None:
            wait_until(condition)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        self._stack.callback(thread.join)


def _invoked(group: Any, words: list[str]) -> str:
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, f"{shlex.join(words)}: {result.output} {result.exception!r}"
    return result.stdout


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    """In a folder with the demo's film, the first moments of it, and the examples."""
    monkeypatch.chdir(tmp_path)
    Path("out/demo").mkdir(parents=True)
    Path("docs").symlink_to(ROOT / "docs")
    there = list(itertools.islice(scene.render(), THERE))
    film = [*there, *there[-2:0:-1]]
    with VideoWriter("out/demo/pond.mp4", (scene.WIDTH, scene.HEIGHT), FPS) as video:
        for rgb_hwc, _ in film:
            video.write(rgb_hwc)
    with ExitStack() as stack:
        yield Reader([truth_hw for _, truth_hw in film], stack, monkeypatch)


def test_what_the_guide_says_works(reader: Reader) -> None:
    reader.read(GUIDE)
    listed = next(said for line, said in reader.said.items() if line == "trackctl ls")
    assert "koi" in listed
    recorded = list(read_json_lines(Path("pond.jsonl")))
    for record, fish in zip(recorded[-1].objects, (1, 2), strict=True):
        assert recorded[-1].capture is not None
        truth_hw = reader.truth(recorded[-1].capture) == fish
        mask_hw = mask_of_record(record, recorded[-1].size_wh)
        assert (mask_hw & truth_hw).sum() > 0.5 * (mask_hw | truth_hw).sum()
    assert len(json.loads(Path("pond.json").read_text())["images"]) == len(recorded)
    assert "0." in reader.said["python"]
    assert len(list(Path("masks").iterdir())) == len(recorded)
    assert len(list(sources.frames(Path("pond-seen.mp4")))) == len(recorded)
    assert len(list(sources.frames(Path("plain.mp4")))) == len(recorded)
    assert Path("found.png").is_file()
    found = next(said for line, said in reader.said.items() if "detector.py" in line)
    assert re.search(r"^#\d+ koi at \(.*\): (new|known) \d+$", found, re.MULTILINE)
    assert len(list(sources.frames(Path("koi.mp4")))) == FRAMES
    assert len(_lines("koi.txt")) == FRAMES
    assert [len(result.objects) for result in read_json_lines(Path("both.jsonl"))] == [2] * FRAMES
    assert Path("candidates").is_dir()
    assert json.loads(Path("now.json").read_text())["images"]


def test_its_places_are_where_the_fish_are() -> None:
    """Of the demo's film, which is the same on every machine: what the guide marks on a frame is a fish there."""
    truths = [truth_hw for _, truth_hw in itertools.islice(scene.render(), 151)]
    marked = re.findall(r"--frame (\d+) --(box|point) ([\d,]+)", GUIDE)
    marked += [("0", kind, place) for kind, place in re.findall(r"track pond.mp4 --(box|point) ([\d,]+)", GUIDE)]
    marked += [("0", "box", box.replace(" ", "")) for box in re.findall(r"frame: 0, box: \[([\d, ]+)\]", GUIDE)]
    assert len(marked) >= 9
    for frame, kind, place in marked:
        numbers = [int(number) for number in place.split(",")]
        truth_hw = truths[int(frame)]
        if kind == "point":
            assert truth_hw[numbers[1], numbers[0]] > 0, place
        else:
            assert numbers in [_box_of(truth_hw == fish) for fish in np.unique(truth_hw)[1:]], place


def _box_of(mask_hw: NDArray[np.bool_]) -> list[int]:
    y, x = np.nonzero(mask_hw)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]


def test_every_command_of_the_client_is_in_it() -> None:
    missing = [name for name in trackctl.commands if f"trackctl {name}" not in GUIDE]
    assert missing == []
