"""`trackerd fleet` for people: what it says where there is no fleet, no NATS or no such file."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from helpers.fleets import free_port, nats_server
from tracker.cli import show
from tracker.cli.fleet_worker import arguments
from tracker.cli.segment import segment
from tracker.cli.track import track
from tracker.cli.trackerd import trackerd
from tracker.client import nats_connection
from tracker.client.nats_connection import close_nats, connect_nats
from tracker.client.nats_options import NatsOptions
from tracker.errors import TrackerError
from tracker.exports import MAX_PNG_OBJECT
from tracker.fleet.buckets import Buckets
from tracker.fleet.child import Order
from tracker.fleet.records import BoxRecord
from tracker.fleet.work import FileTask, Work

HELP = ["-h", "--help"]  # click keeps a command's first ones
TRACKERD = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()"]


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*TRACKERD, "fleet", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_it_says_where_nats_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats_connection, "PATIENCE_S", 1.0)
    result = CliRunner().invoke(trackerd, ["fleet", "ls", "--nats", f"nats://127.0.0.1:{free_port()}"])
    assert isinstance(result.exception, TrackerError)
    assert "NATS is not to be had there: no answer" in result.exception.message


@pytest.mark.nats
def test_it_says_that_there_is_no_fleet(tmp_path: Path) -> None:
    with nats_server(tmp_path) as nats:
        for command in (["ls"], ["jobs"], ["rm", "cam1"], ["drain", "north-1"], ["move", "cam1"]):
            code, said = run(*command, "--nats", nats.url)
            assert (code, "start a box first, trackerd fleet serve" in said) == (1, True), said


@pytest.mark.nats
def test_it_says_that_no_box_works_on_files(tmp_path: Path) -> None:
    async def boxes_alone() -> None:
        connection = await connect_nats(NatsOptions([nats.url]), "test")
        await Buckets.create(connection, 1)
        await close_nats(connection)

    with nats_server(tmp_path) as nats:
        asyncio.run(boxes_alone())
        result = CliRunner().invoke(trackerd, ["fleet", "jobs", "--nats", nats.url])
    assert isinstance(result.exception, TrackerError)
    assert "no box of this fleet works on files yet: start one with jobs.inputs" in result.exception.message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["apply", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["serve", "-c", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["submit", "segment", "nowhere.png"], "does not exist"),
        (["jobs", "--fetch", "here"], "name the job"),
        (["submit", "segment", "a.png", "--point", "nan,2"], "'nan,2' is not X,Y[,LABEL]"),
    ],
)
def test_wrong_use_is_refused(words: list[str], says: str) -> None:
    code, said = run(*words)
    assert code != 0
    assert says in said


@pytest.mark.parametrize(
    ("marks", "says"),
    [
        (["--box", "1,2,3,4", "--model", "nosuch"], "there is no model 'nosuch'; known: nano"),
        (["--point", "1,2"] * 257, "--point: must be a list of at most 256 items"),
        (["--point", "-1,2"], "--point: must be a number of at least 0"),
        (["--point", "1e9,2"], "--point: must be a number of at most 1000000"),
        (["--point", "1,2,3"], "its label is neither 1 (on the object) nor 0 (off it)"),
        (["--point", "1,2,0"], "all are off the object (0)"),
        (["--box", "3,2,1,4"], "is not x1, y1, x2, y2 with x1 < x2 and y1 < y2"),
        (["--everything", "--image-size", "65"], "--image-size: must be a whole number, a multiple of 32"),
        (["--everything", "--want", "jsonl"], "want: jsonl; segment gives coco, masks, overlays"),
        ([], "mark an object with --point and --box, or say --everything"),
    ],
)
def test_what_no_box_could_do_is_refused_at_submit(tmp_path: Path, marks: list[str], says: str) -> None:
    picture = tmp_path / "picture.png"
    picture.touch()
    nowhere = ["--nats", "nats://127.0.0.1:1"]  # it is not even asked
    result = CliRunner().invoke(trackerd, ["fleet", "submit", "segment", str(picture), *marks, *nowhere])
    assert isinstance(result.exception, TrackerError)
    assert says in result.exception.message


def test_of_what_is_wanted_one_choice_is_named(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.touch()
    result = CliRunner().invoke(trackerd, ["fleet", "submit", "segment", str(picture), "--want", "nope"])
    assert "'nope' is not one of 'masks', 'coco'" in result.output


def test_a_refused_submit_has_loaded_no_torch(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.touch()
    script = "import sys; from tracker.cli.trackerd import trackerd\n"
    script += "try: trackerd()\nfinally: print('torch' in sys.modules)"
    words = ["fleet", "submit", "segment", str(picture), "--box", "1,2,3,4", "--model", "nosuch"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
    assert (done.stdout.strip(), "there is no model" in done.stderr) == ("False", True)


@pytest.mark.parametrize("command", [segment, track])
def test_everything_and_masks_are_what_a_box_can_do(command: click.Command, tmp_path: Path) -> None:
    """A mask's pixel is one byte, and the command by itself would look for more objects than that."""
    picture = tmp_path / "picture.png"
    picture.touch()
    work = Work(kind=command.name, want=["masks"], everything=True)  # type: ignore[arg-type]
    task = FileTask(job="20261126-120000-0a1b2c", number=0, path=str(picture), work=work)
    typed = arguments(Order(task=task, folder=str(tmp_path), device="cpu"))
    context = command.make_context(command.name, typed, help_option_names=HELP)
    assert context.params["max_masks"] == MAX_PNG_OBJECT


def test_a_box_that_does_nothing_says_0_to_programs_too() -> None:
    said = json.loads(show.as_json(BoxRecord(box="north-1", time=1.0, streams_room=4)))
    assert (said["streams"], said["streams_room"], said["objects"]) == (0, 4, 0)
