"""`trackctl` against real sockets: what it asks, prints and exits with."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import Struct, structs
from PIL import Image

from helpers.fake_daemon import FakeDaemon
from helpers.waiting import in_background
from tracker.cli.trackctl import main
from tracker.cli.trackerd import trackerd
from tracker.errors import BadPrompt, BadRequest, NoFrame, Unavailable, UnknownObject, UnknownStream
from tracker.masks.rle import rle_encode
from tracker.protocol import fields, look_requests, messages, object_requests, records, replies, requests
from tracker.sockets.request import Request


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def ctl(daemon: FakeDaemon, *arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), env={"TRACKER_CONTROL": daemon.control.endpoint})


def asked(daemon: FakeDaemon) -> Struct:
    return daemon.asked.get(timeout=20).args


ASKED: list[tuple[str, Struct]] = [
    ("info", requests.ServerInfoArgs()),
    ("streams", requests.StreamsListArgs()),
    (
        "streams add cam1 rtsp://x/ --option a=b=c --size 64 48 --loop",
        requests.StreamsAdd(stream="cam1", url="rtsp://x/", options={"a": "b=c"}, size=(64, 48), loop=True),
    ),
    ("streams remove cam1", requests.StreamName(stream="cam1")),
    ("streams pause cam1", requests.StreamName(stream="cam1")),
    ("streams resume cam1", requests.StreamName(stream="cam1")),
    (
        "add cam1 --point 1,2 --point 3.5,4,0 --box 0,0,9,9 --frame 5 --label cat --expire 3",
        object_requests.ObjectsAdd(
            stream="cam1",
            points=[(1, 2), (3.5, 4)],
            labels=[1, 0],
            box=(0, 0, 9, 9),
            frame=5,
            label="cat",
            expire_s=3,
        ),
    ),
    (
        "add cam1 --box 0,0,9,9 --object 7 --time 12.5",
        object_requests.ObjectsAdd(stream="cam1", box=(0, 0, 9, 9), object=7, time=12.5),
    ),
    (
        "refine cam1 7 --point 1,2,0 --replace",
        object_requests.ObjectsRefine(stream="cam1", object=7, points=[(1, 2)], labels=[0], replace=True),
    ),
    ("rm cam1 7", object_requests.ObjectsRemove(stream="cam1", object=7)),
    ("rm cam1 --all", object_requests.ObjectsRemove(stream="cam1", all=True)),
    ("ls", object_requests.ObjectsList()),
    ("ls cam1", object_requests.ObjectsList(stream="cam1")),
    ("ls --all", object_requests.ObjectsList(all=True)),
    ("describe cam1 7", object_requests.ObjectsDescribe(stream="cam1", object=7)),
    ("similar --text forklift --limit 3", look_requests.SearchSimilar(text="forklift", limit=3)),
    ("similar cam1 7 --on cam2", look_requests.SearchSimilar(stream="cam1", object=7, on="cam2")),
    (
        "similar cam1 --box 0,0,9,9 --frame 5 --label cat --limit 3",
        look_requests.SearchSimilar(stream="cam1", box=(0, 0, 9, 9), frame=5, label="cat", limit=3),
    ),
    (
        "watchlist add truck cam1 7 --threshold 0.8",
        look_requests.WatchAdd(name="truck", stream="cam1", object=7, threshold=0.8),
    ),
    ("watchlist ls", look_requests.WatchListArgs()),
    ("watchlist rm 3", look_requests.WatchRemove(watch=3)),
    (
        "zones set cam1 gate --line 0,0.9,0.9,0 --fraction --label cat --label dog --at foot",
        requests.ZonesSet(
            stream="cam1", zone="gate", line=((0, 0.9), (0.9, 0)), unit="fraction", labels=["cat", "dog"], at="foot"
        ),
    ),
    (
        "zones set cam1 gate --line 0,0.9 --line 0.9,0 --fraction --label cat --label dog --at foot",
        requests.ZonesSet(
            stream="cam1", zone="gate", line=((0, 0.9), (0.9, 0)), unit="fraction", labels=["cat", "dog"], at="foot"
        ),
    ),
    ("zones remove cam1 gate", requests.ZonesRemove(stream="cam1", zone="gate")),
    ("zones list cam1", requests.ZonesList(stream="cam1")),
    ("zones", requests.ZonesList()),
    ("history", requests.HistoryList()),
    ("history cam1 7 --limit 5", requests.HistoryList(stream="cam1", object=7, limit=5)),
]


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
@pytest.mark.parametrize(("line", "args"), ASKED)
def test_what_is_typed_is_what_is_asked(daemon: FakeDaemon, line: str, args: Struct, json_flag: list[str]) -> None:
    result = ctl(daemon, *line.split(), *json_flag)
    assert result.exit_code == 0, result.output
    assert asked(daemon) == args
    if json_flag:
        assert isinstance(json.loads(result.stdout), dict)


def test_tables_say_what_matters(daemon: FakeDaemon) -> None:
    assert "nano, 256 px, float32 on cpu" in ctl(daemon, "info").stdout
    assert "64×48" in ctl(daemon, "streams").stdout
    assert "visible" in ctl(daemon, "ls").stdout
    assert "waiting" not in ctl(daemon, "ls").stderr
    assert ctl(daemon, "rm", "cam1", "7").stdout == "removed 7\n"


def test_an_event_without_a_frame_names_none(daemon: FakeDaemon) -> None:
    added = messages.Event(event="stream_added", stream="cam1", frame=None, epoch=0, time=1.0)
    daemon.answers["history.list"] = replies.EventList(events=[added])
    assert ctl(daemon, "history").stdout.endswith("  cam1  stream_added\n")


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("cat\x1b]0;owned\x07", r"cat\x1b]0;owned\x07"),
        ("two\nlines\r", r"two\nlines\r"),
        ("right\u202eto left", r"right\u202eto left"),
        ("\u2066hidden\u2069", r"\u2066hidden\u2069"),
        ("\x9b31m", r"\x9b31m"),
        ("[bold]Kätzchen 猫[/]", "[bold]Kätzchen 猫[/]"),
    ],
)
def test_what_strangers_wrote_does_not_reach_the_terminal_as_it_is(
    daemon: FakeDaemon, label: str, shown: str
) -> None:

    entry = replies.ObjectEntry(object=7, state="visible", label=label, stream="cam1", frame=5)
    daemon.answers["objects.list"] = replies.ObjectList(objects=[entry])
    table, as_json = ctl(daemon, "ls").stdout, ctl(daemon, "ls", "--json").stdout
    assert shown in table
    assert len(table.splitlines()) == 2
    assert json.loads(as_json)["objects"][0]["label"] == label
    daemon.answers["objects.list"] = BadPrompt(label)
    refused = ctl(daemon, "ls").stderr
    assert shown in refused
    event = messages.Event(event="object_added", stream="cam1", frame=1, epoch=0, time=1.0, object=7, label=label)
    with published_once(daemon, event):
        watched = ctl(daemon, "watch", "cam1", "--count", 1).stdout
    assert shown in watched
    for text in (table, as_json, refused, watched):
        assert text.replace("\n", "").isprintable()


@contextmanager
def published_once(daemon: FakeDaemon, event: messages.Event) -> Iterator[None]:
    """Published again and again, until somebody has heard it."""

    def publish(done: threading.Event) -> None:
        while not done.wait(0.005):
            daemon.publisher.publish("events/cam1/", event)

    with in_background(publish):
        yield


def commands(group: click.Group, *names: str) -> Iterator[tuple[str, ...]]:
    yield names
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


EVERY = [(group, names) for group in (main, trackerd) for names in commands(group)]


@pytest.mark.parametrize(("group", "names"), EVERY)
def test_h_is_help_everywhere(group: click.Group, names: tuple[str, ...]) -> None:
    result = CliRunner().invoke(group, [*names, "-h"])
    assert result.exit_code == 0
    assert result.output.startswith("Usage: ")


def test_ls_loads_nothing_that_it_does_not_need(daemon: FakeDaemon) -> None:
    heavy = ("torch", "sam2", "cv2", "av", "PIL", "numpy", "rich", "yaml", "asyncio")
    program = f"""
import sys
from tracker.cli.trackctl import main
try: main(["ls"])
except SystemExit: print([name for name in {heavy!r} if name in sys.modules])
"""
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done


@pytest.mark.parametrize("line", ["--help", "track --help", "segment --help", "frame --help", "models list"])
def test_trackerd_loads_nothing_that_a_command_does_not_need(line: str) -> None:
    heavy = ("torch", "cv2", "av", "PIL")
    program = f"""
import sys
from tracker.cli.trackerd import trackerd
try: trackerd({line.split()!r})
except SystemExit: print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == "trackctl, version 0.1.0\n"


def test_json_carries_the_record_with_its_run_lengths_as_text(daemon: FakeDaemon) -> None:
    mask = fields.Rle((48, 64), rle_encode(np.eye(48, 64, dtype=bool)))
    record = replies.ObjectEntry(
        object=7, state="visible", mask=mask, meta={"raw": b"\xff"}, stream="cam1", frame=5
    )
    daemon.answers["objects.list"] = replies.ObjectList(objects=[record])
    (found,) = json.loads(ctl(daemon, "ls", "--json").stdout)["objects"]
    assert found["mask"] == {"size": [48, 64], "counts": mask.counts.decode()}
    assert found["meta"] == {"raw": "/w=="}


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGB"])
def test_a_mask_file_marks_what_is_not_zero(daemon: FakeDaemon, tmp_path: Path, mode: str) -> None:
    mask_hw = np.zeros((48, 64), np.uint8)
    mask_hw[3:9, 5:20] = 255
    image = Image.fromarray(mask_hw)
    if mode == "P":
        image = Image.fromarray(mask_hw // 255).convert("P")
        image.putpalette([0] * 768)
    image.convert(mode).save(tmp_path / "mask.png")
    assert ctl(daemon, "add", "cam1", "--mask", tmp_path / "mask.png").exit_code == 0
    assert asked(daemon) == object_requests.ObjectsAdd(
        stream="cam1", mask=fields.Rle((48, 64), rle_encode(mask_hw > 0))
    )


@pytest.mark.parametrize("colour", [(1, 0, 0), (0, 0, 2), (0, 0, 2, 255)])
def test_the_darkest_colour_of_a_mask_file_is_not_zero(
    daemon: FakeDaemon, tmp_path: Path, colour: tuple[int, ...]
) -> None:
    image = Image.new("RGB" if len(colour) == 3 else "RGBA", (64, 48))
    image.paste(colour, (5, 3, 20, 9))
    image.save(tmp_path / "mask.png")
    assert ctl(daemon, "add", "cam1", "--mask", tmp_path / "mask.png").exit_code == 0
    inside_hw = np.zeros((48, 64), bool)
    inside_hw[3:9, 5:20] = True
    assert asked(daemon) == object_requests.ObjectsAdd(
        stream="cam1", mask=fields.Rle((48, 64), rle_encode(inside_hw))
    )


@pytest.mark.parametrize(
    ("arguments", "format_", "file"),
    [
        ([], "jpeg", "cam1-5.jpg"),
        (["-o", "x.png"], "png", "x.png"),
        (["--format", "png"], "png", "cam1-5.png"),
    ],
)
def test_a_snapshot_becomes_a_file(
    daemon: FakeDaemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    format_: Any,
    file: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = ctl(daemon, "snapshot", "cam1", *arguments, "--max-width", 320, "--overlay", "--json")
    wanted = requests.FramesGet(stream="cam1", format=format_, max_width=320, overlay=True, pin_s=60)
    assert asked(daemon) == wanted
    assert (tmp_path / file).read_bytes() == b"\x89PNG"
    assert json.loads(result.stdout)["file"] == file


@pytest.mark.parametrize("arguments", [["-o", "cam1-5.jpg"], []])
def test_a_snapshot_writes_nothing_over_unasked(
    daemon: FakeDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "cam1-5.jpg"
    path.write_bytes(b"mine")
    refused = ctl(daemon, "snapshot", "cam1", *arguments)
    assert refused.exit_code == 2
    said = " ".join(refused.stderr.split())
    assert "cam1-5.jpg is there already: remove it, or choose another name, or give --overwrite" in said
    assert path.read_bytes() == b"mine"
    assert ctl(daemon, "snapshot", "cam1", *arguments, "--overwrite").exit_code == 0
    assert path.read_bytes() == b"\x89PNG"


def test_a_snapshot_says_how_to_go_on(daemon: FakeDaemon, tmp_path: Path) -> None:
    said = ctl(daemon, "snapshot", "cam1", "-o", tmp_path / "now.JPG").stdout
    assert "frame 5 of cam1, 4 bytes; to mark something on it within 60 s: trackctl add cam1 --frame 5" in said


def test_a_snapshot_waits_for_the_first_frame_of_a_stream_that_is_being_opened(daemon: FakeDaemon) -> None:
    image, stream = daemon.answers["frames.get"], daemon.answers["streams.list"].streams[0]
    daemon.answers["frames.get"] = NoFrame("nothing was decoded on this stream yet (connecting)")
    opening = structs.replace(stream, state="connecting")
    daemon.answers["streams.list"] = replies.StreamList(streams=[opening])

    def connect(request: Request) -> None:
        if request.op == "streams.list":
            daemon.answers["frames.get"] = image

    daemon.on_request = connect
    assert ctl(daemon, "snapshot", "cam1", "-o", "-").stdout_bytes == b"\x89PNG"

    daemon.answers["frames.get"] = NoFrame("nothing was decoded on this stream yet (connecting: away)")
    daemon.answers["streams.list"] = replies.StreamList(streams=[structs.replace(opening, error="away")])
    refused = ctl(daemon, "snapshot", "cam1", "-o", "-")
    assert "no_frame: nothing was decoded on this stream yet (connecting: away)" in refused.stderr


def test_a_stream_that_is_down_names_its_source_once(daemon: FakeDaemon) -> None:
    stream = daemon.answers["streams.list"].streams[0]
    down = structs.replace(stream, state="connecting", error=f"{stream.url}: connection refused")
    daemon.answers["streams.list"] = replies.StreamList(streams=[down])
    assert ctl(daemon, "streams").stdout.endswith("  rtsp://cam1.local/live  connection refused\n")


def test_a_snapshot_goes_to_standard_output(daemon: FakeDaemon) -> None:
    assert ctl(daemon, "snapshot", "cam1", "-o", "-").stdout_bytes == b"\x89PNG"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (BadPrompt("points: (1, 2) is outside"), "trackctl: bad_prompt: points: (1, 2) is outside\n"),
        (Unavailable("the daemon is stopping"), "trackctl: unavailable: the daemon is stopping\n"),
    ],
)
def test_a_refusal_exits_with_1_and_says_why(daemon: FakeDaemon, error: Exception, text: str) -> None:
    daemon.answers["objects.list"] = error
    result = CliRunner().invoke(main, ["--control", daemon.control.endpoint, "ls"], prog_name="trackctl")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", text)


@pytest.mark.parametrize(
    "line",
    [
        "fly",
        "add",
        "add cam1 --point 1",
        "add cam1 --point 1,x",
        "add cam1 --box 1,2,3",
        "add cam1 --mask no-such-file.png",
        "add cam1 --mask pyproject.toml",
        "refine cam1 seven --point 1,1",
        "rm cam1",
        "rm cam1 7 --all",
        "streams add cam1 rtsp://x/ --option nothing",
        "snapshot cam1 --format gif",
        "snapshot cam1 -o x.gif",
        "snapshot cam1 -o x",
        "snapshot cam1 -o x.png --format jpeg",
        "snapshot cam1 -o /no/such/folder/x.png",
        "watch cam1 --topic trakcs",
        "--control nonsense info",
        "watch cam1 --topic frames/333",
        "watch cam1 --topic frames/320/320",
        "similar cam1",
        "similar cam1 7 --box 1,2,3,4",
        "watchlist add forklift cam1",
        "zones set cam1 door --line 1,2",
        "zones set cam1 door --line 1,2,nan,2",
        "--timeout 0 info",
    ],
)
def test_wrong_usage_exits_with_2(daemon: FakeDaemon, line: str) -> None:
    result = ctl(daemon, *line.split())
    assert result.exit_code == 2, result.output
    assert "Usage:" in result.stderr


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--timeout nan info", "timeout_s: nan where seconds are taken"),
        ("--timeout inf info", "timeout_s: inf where seconds are taken"),
        ("--timeout 1e12 info", "timeout_s: 1e+12 where seconds are taken"),
        ("add cam1 --point 5,5 --frame 99999999999999999999", "a whole number is beyond 64 bits"),
        ("rm cam1 99999999999999999999", "a whole number is beyond 64 bits"),
        ("zones set cam1 door --line 1,2,3,4 --min-area 99999999999999999999", "a whole number is beyond 64 bits"),
    ],
)
def test_numbers_that_nobody_can_send_are_refused(daemon: FakeDaemon, line: str, text: str) -> None:
    result = ctl(daemon, *line.split())
    assert result.exit_code == 1, result.output
    assert text in result.stderr


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("--line 1,2", "--line: takes two points, X,Y,X,Y; here: 1"),
        ("--polygon 1,2,3,4", "--polygon: takes three points or more, X,Y,X,Y,X,Y; here: 2"),
        ("--line 1,2,nan,2", "--line: must be a number of at least"),
        ("--polygon 1,2,3,4,5,6 --loiter -1", "--loiter: must be a number above 0"),
        ("--line 1,2,3,4 --loiter 5", "--loiter: nobody stays in a line; give a polygon"),
        ("--line 1,2,3,4 --label=", "--label: must be text of at least 1 character"),
        ("--line 1,2,3,4 --fraction", "fractions of the picture's width and height lie between 0 and 1"),
    ],
)
def test_a_zone_is_refused_in_the_words_of_its_options(daemon: FakeDaemon, options: str, text: str) -> None:
    result = ctl(daemon, "zones", "set", "cam1", "door", *options.split())
    assert text in result.stderr
    assert "`" not in result.stderr


@pytest.mark.parametrize(
    ("line", "op", "error", "text"),
    [
        (
            "snapshot cam1 --max-width 5",
            "frames.get",
            BadRequest("args.max_width: must be a whole number of at least 16"),
            "bad_request: --max-width: must be a whole number of at least 16",
        ),
        (
            "add cam1 --point 900,40",
            "objects.add",
            BadPrompt("points[0]: (900, 40) is outside the frame of 640 × 360 pixels"),
            "bad_prompt: --point: (900, 40) is outside the frame of 640 × 360 pixels",
        ),
        (
            "add cam1 --point 9,4 --expire 0",
            "objects.add",
            BadRequest("args.expire_s: must be a number above 0.0"),
            "bad_request: --expire: must be a number above 0.0",
        ),
        (
            "add cam1 --mask MASK",
            "objects.add",
            BadPrompt("mask.size: [4, 6] is not the frame's [h, w], which is [360, 640]"),
            "bad_prompt: --mask MASK: [4, 6] is not the frame's [h, w], which is [360, 640]",
        ),
        (
            "similar cam1 7 --on porch",
            "search.similar",
            UnknownStream("on: no stream is called 'porch'; there: cam1"),
            "unknown_stream: --on: no stream is called 'porch'; there: cam1",
        ),
        (
            "zones set cam1 a/b --line 1,2,3,4",
            "zones.set",
            BadRequest("args.zone: must be text: 1 to 64 of a-z"),
            "bad_request: zone: must be text: 1 to 64 of a-z",
        ),
        (
            "refine cam1 7 --point 9,4",
            "objects.refine",
            UnknownObject("object: 7 is not on stream 'cam1'; there: 1"),
            "unknown_object: object: 7 is not on stream 'cam1'; there: 1",
        ),
    ],
)
def test_a_refusal_names_what_was_typed(
    daemon: FakeDaemon, tmp_path: Path, line: str, op: str, error: Exception, text: str
) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (6, 4), 255).save(mask)
    daemon.answers[op] = error
    result = ctl(daemon, *line.replace("MASK", str(mask)).split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert text.replace("MASK", str(mask)) in result.stderr


def test_no_answer_exits_with_3(daemon: FakeDaemon) -> None:
    daemon.answers["objects.list"] = None
    result = ctl(daemon, "--timeout", "0.1", "ls")
    assert result.exit_code == 3
    assert "is the daemon running there?" in result.stderr


@pytest.mark.parametrize("line", ["add cam1 --label cat", "refine cam1 7 --replace"])
def test_an_object_that_nothing_marks_is_wrong_usage(daemon: FakeDaemon, line: str) -> None:
    result = ctl(daemon, *line.split())
    assert result.exit_code == 2
    assert "mark the object: give --point, --box or --mask" in result.stderr


@pytest.mark.parametrize("line", ["info", "info --json", "snapshot cam1 -o -"])
def test_standard_output_that_is_full_is_named(daemon: FakeDaemon, line: str) -> None:
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    command = [str(Path(sys.executable).with_name("trackctl")), *line.split()]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, env=environment, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "trackctl: standard output: No space left on device\n")


def publish_until(daemon: FakeDaemon, done: threading.Event) -> None:
    frame = 0
    while not done.wait(0.005):
        event = messages.Event(
            event="object_added", stream="cam1", frame=frame, epoch=0, time=1.0, object=7, label="cat"
        )
        daemon.publisher.publish("events/cam1/", event)
        frame += 1


@pytest.fixture
def publishing(daemon: FakeDaemon) -> Iterator[None]:
    with in_background(lambda done: publish_until(daemon, done)):
        yield


@pytest.mark.usefixtures("publishing")
def test_watch_prints_what_comes(daemon: FakeDaemon) -> None:
    lines = ctl(daemon, "watch", "cam1", "--count", 3).stdout.splitlines()
    assert [line.split("  ")[1] for line in lines] == ["object_added 7 cat"] * 3
    records = [json.loads(line) for line in ctl(daemon, "watch", "--count", 3, "--json").stdout.splitlines()]
    assert [record["seq"] - records[0]["seq"] for record in records] == [0, 1, 2]


@pytest.mark.usefixtures("publishing")
def test_watch_ends_well_with_ctrl_c(daemon: FakeDaemon) -> None:
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    # Tests that run in the background of a shell have Ctrl-C ignored, and so have their children.
    listening = ["env", "--default-signal=INT", sys.executable]
    command = [*listening, "-c", "from tracker.cli.start import trackctl; trackctl()", "watch", "cam1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert b"object_added" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            messages.Tracks(
                stream="cam1",
                frame=3,
                step=3,
                epoch=0,
                pts=None,
                time=1.0,
                camera_time=None,
                mono_ns=1,
                size=(64, 48),
                dropped=0,
                objects=[
                    records.ObjectRecord(object=7, state="visible", score=0.934, box=(1, 2, 3, 4), label="cat"),
                    records.ObjectRecord(object=8, state="pending", behind=12),
                ],
            ),
            "cam1 #3  7 cat visible 1,2,3,4 0.93  8 pending, 12 behind",
        ),
        (
            messages.Status(
                time=1.0,
                streams=[records.StreamRecord(stream="cam1", url="x", state="live", frame=9, dropped=2)],
                memory=messages.DeviceMemory(device="cpu", used_bytes=1, total_bytes=2),
                steps=messages.StepTimes(),
            ),
            "cam1 live #9 dropped 2",
        ),
        (
            messages.FrameMessage(stream="cam1", frame=3, time=1.0, size=(64, 48), format="jpeg"),
            "cam1 #3  jpeg, 5 bytes",
        ),
    ],
)
def test_every_kind_of_message_has_a_line(body: Any, line: str) -> None:
    from tracker.cli.show import message_line
    from tracker.client.messages import Message

    assert " ".join(message_line(Message("topic/", body, b"image")).split()) == " ".join(line.split())


def test_history_and_what_waits_are_shown(daemon: FakeDaemon) -> None:
    waiting = replies.WaitingObject(object=3, stream="door", frame=9, label="cup", meta={})
    daemon.answers["objects.list"] = replies.ObjectList(objects=[], waiting=[waiting])
    assert "door" in ctl(daemon, "ls", "--all").stdout
    lost = messages.Event(event="object_lost", stream="cam1", frame=5, epoch=0, time=1.7e9, object=7, label="cup")
    daemon.answers["history.list"] = replies.EventList(events=[lost])
    assert "cam1 #5  object_lost 7 cup" in ctl(daemon, "history", "--since", "60").stdout
