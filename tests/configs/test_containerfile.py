"""The Containerfile, linted: it is built where there is a container engine, which tests do without."""

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tracker.cli.trackerd import trackerd

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "configs" / "Containerfile"
HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([HADOLINT, "--no-color", path], capture_output=True, text=True, timeout=60)


def test_hadolint_finds_nothing() -> None:
    found = lint(CONTAINERFILE)
    assert (found.returncode, found.stdout) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("base-ubuntu24.04 AS build", "latest AS build", "DL3007"),
        ('CMD ["serve"', "CMD serve  #", "DL3025"),
        ("WORKDIR /src", "WORKDIR src", "DL3000"),
    ],
)
def test_the_lint_can_fail(tmp_path: Path, right: str, wrong: str, rule: str) -> None:
    text = CONTAINERFILE.read_text().replace("nvidia/cuda:12.8.1-", "nvidia/cuda:") if "latest" in wrong else None
    path = tmp_path / "Containerfile"
    path.write_text((text or CONTAINERFILE.read_text()).replace(right, wrong))
    assert rule in lint(path).stdout


def test_what_is_copied_is_there() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_command_is_one_that_there_is() -> None:
    (command,) = re.findall(r"^CMD (\[.*\])$", CONTAINERFILE.read_text(), re.MULTILINE)
    name, *options = re.findall(r'"([^"]+)"', command)
    known = {option for p in trackerd.commands[name].params if isinstance(p, click.Option) for option in p.opts}
    assert {option for option in options if option.startswith("-")} <= known
