"""The unit file, as systemd itself reads it."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "systemd" / "tracker.service"

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


def analyze(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60)


def test_the_unit_has_no_mistake(tmp_path: Path) -> None:
    """`verify` exits 0 on misspelt keys, so any output fails; the program need not be installed where tests run."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/tracker/.venv/bin/trackerd", "/bin/true"))
    found = analyze("verify", "--man=no", str(unit))
    assert (found.returncode, found.stdout + found.stderr) == (0, "")


def test_the_check_can_fail(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(
        UNIT.read_text()
        .replace("/opt/tracker/.venv/bin/trackerd", "/bin/true")
        .replace("ProtectHome", "ProtectHouse")
    )
    found = analyze("verify", "--man=no", str(unit))
    assert "ProtectHouse" in found.stdout + found.stderr


def test_the_unit_is_hardened() -> None:
    found = analyze("security", "--offline=yes", "--threshold=30", str(UNIT))
    assert found.returncode == 0, found.stdout
