"""What `pip` makes of this repository: its name, and the light install for clients in an environment of its own."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.fake_daemon import FakeDaemon

ROOT = Path(__file__).parents[1]
LIGHT = ROOT / "configs" / "client.txt"


def needed() -> list[str]:
    lines = LIGHT.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_distribution_has_a_name_of_its_own_and_the_light_install_is_a_part_of_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "trackerd"
    assert set(needed()) <= set(project["dependencies"])


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with what clients need, and this repository."""
    environment = tmp_path_factory.mktemp("light") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True, capture_output=True)
    pip: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    installed = subprocess.run([*pip, "-r", LIGHT], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"no package index here: {installed.stderr.strip().splitlines()[-1]}")
    subprocess.run([*pip, "--no-deps", ROOT], check=True, capture_output=True)
    return environment / "bin"


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def run(command: list[str | Path], daemon: FakeDaemon, folder: Path) -> str:
    environment = {**os.environ, "TRACKER_CONTROL": daemon.control.endpoint}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout


@pytest.mark.timeout(900)  # the first time it downloads
def test_the_light_install_has_the_client_and_trackctl_and_no_torch(
    light: Path, daemon: FakeDaemon, tmp_path: Path
) -> None:
    assert "visible" in run([light / "trackctl", "ls"], daemon, tmp_path)
    assert run([light / "trackctl", "record", "-h"], daemon, tmp_path).startswith("Usage: ")
    program = """
import importlib.util
from tracker.client import AsyncClient, Client, mask_of
from tracker.cli.recorder import Recorder
with Client() as client:
    print(len(client.add("cam1", box=(1, 2, 3, 4)).outline), importlib.util.find_spec("torch"))
"""
    assert run([light / "python", "-c", program], daemon, tmp_path) == "0 None\n"
