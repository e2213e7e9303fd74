"""`trackerd fleet` for people: what it says where there is no fleet, no NATS or no such file."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.fleets import free_port, nats_server

TRACKERD = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()"]


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([*TRACKERD, "fleet", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_it_says_where_nats_is_not() -> None:
    code, said = run("ls", "--nats", f"nats://127.0.0.1:{free_port()}")
    assert (code, "NATS is not to be had there" in said) == (1, True)


@pytest.mark.nats
def test_it_says_that_there_is_no_fleet(tmp_path: Path) -> None:
    with nats_server(tmp_path) as nats:
        for command in (["ls"], ["jobs"], ["rm", "cam1"], ["drain", "north-1"], ["move", "cam1"]):
            code, said = run(*command, "--nats", nats.url)
            assert (code, "start a box first, trackerd fleet serve" in said) == (1, True), said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["apply", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["serve", "-c", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["submit", "segment", "nowhere.png"], "does not exist"),
        (["jobs", "--fetch", "here"], "name the job"),
    ],
)
def test_wrong_use_is_refused(arguments: list[str], says: str) -> None:
    code, said = run(*arguments)
    assert code != 0
    assert says in said
