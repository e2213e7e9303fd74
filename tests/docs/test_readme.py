"""The README's Python is run, and what it and the architecture name is there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from helpers.tracking import blobs, configuration, serving
from tracker import config
from tracker.cli.trackctl import main as trackctl
from tracker.cli.trackerd import trackerd

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^    ((?:trackctl|trackerd) .*)$", README, re.MULTILINE)


class Enough(Exception):
    pass


def test_the_python_example_reads_masks(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    said: list[tuple[Any, ...]] = []

    def listen(*words: Any) -> None:
        said.append(words)
        if len(said) == 3:
            raise Enough

    url = str(blobs(tmp_path / "blobs.mp4"))
    with serving(configuration(streams={"cam1": {"url": url, "loop": True}})) as talk:
        talk.wait_for_frame(0)
        here = example.replace("Client()", f"Client({talk.daemon.control.endpoint!r})")
        here = here.replace("(410, 220, 560, 480)", "(105, 75, 135, 105)")
        with pytest.raises(Enough):
            exec(here, {"print": listen})
    for _, number, label, state, box, area in said:
        assert (number, label, state) == (1, "pallet", "visible")
        assert box == pytest.approx([110, 80, 130, 100], abs=3)
        assert area == pytest.approx(400, rel=0.3)


def test_the_python_example_is_typed(tmp_path: Path) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", str(tmp_path / "example.py")]
    done = subprocess.run([*command, f"--cache-dir={tmp_path}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_camera_of_the_example_is_a_valid_configuration() -> None:
    (text,) = re.findall(r"echo '(.*)' > cam.yaml", README)
    assert list(config.parse(text).streams) == list(yaml.safe_load(text)["streams"]) == ["cam1"]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_and_options_exist(line: str) -> None:
    program, command, *words = shlex.split(line, comments=True)
    group = {"trackctl": trackctl, "trackerd": trackerd}[program]
    text = CliRunner().invoke(group, [command, "--help"]).output
    assert text.startswith("Usage: ")
    for option in (word for word in words if word.startswith("-")):
        assert re.search(rf"(?<!\S){re.escape(option)}\b", text), text


def test_the_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Packages")[1]
    named = {
        name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)
    }
    package = ROOT / "tracker"
    whole = {name for name in named if name.endswith("/")}
    there = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert named - whole == {name for name in there if not name.startswith(tuple(whole))}
    assert all((package / folder).is_dir() for folder in whole)
