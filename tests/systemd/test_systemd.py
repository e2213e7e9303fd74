"""The unit files, as systemd itself reads them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tracker.daemon.watch import PATIENCE_S, STOP_IN_STEP_S

FOLDER = Path(__file__).parents[2] / "systemd"
UNITS = {"tracker.service": "tracker.service", "tracker@.service": "tracker@0.service"}  # as started
PROGRAM = "/opt/tracker/current/bin/trackerd"

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")


def analyze(*args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, timeout=60)


def verified(folder: Path, name: str, text: str) -> str:
    """All that `verify` says of a unit; the program need not be installed where tests run."""
    (folder / name).write_text(text.replace(PROGRAM, "/bin/true"))
    found = analyze("verify", "--man=no", str(folder / UNITS[name]))
    return found.stdout + found.stderr


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_has_no_mistake(tmp_path: Path, name: str) -> None:
    """`verify` exits 0 on misspelt keys, so any output fails."""
    assert verified(tmp_path, name, (FOLDER / name).read_text()) == ""


@pytest.mark.parametrize("name", UNITS)
def test_the_check_can_fail(tmp_path: Path, name: str) -> None:
    wrong = (FOLDER / name).read_text().replace("ProtectHome", "ProtectHouse")
    assert "ProtectHouse" in verified(tmp_path, name, wrong)


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_is_hardened(name: str) -> None:
    found = analyze("security", "--offline=yes", "--threshold=25", str(FOLDER / name))
    assert found.returncode == 0, found.stdout


def test_the_drop_in_is_stricter_and_has_no_mistake(tmp_path: Path) -> None:
    unit = (FOLDER / "tracker.service").read_text()
    (tmp_path / "tracker.service.d").mkdir()
    shutil.copy(FOLDER / "stricter.conf", tmp_path / "tracker.service.d")
    assert verified(tmp_path, "tracker.service", unit) == ""
    settings = (FOLDER / "stricter.conf").read_text().partition("[Service]\n")[2]
    path = tmp_path / "strict.service"
    path.write_text(unit.replace("\n[Install]", settings + "\n[Install]"))
    found = analyze("security", "--offline=yes", "--threshold=15", str(path))
    assert found.returncode == 0, found.stdout


def test_the_unit_of_a_gpu_differs_by_its_number_alone() -> None:
    """Whoever mends one mends the other."""
    one, each = ((FOLDER / name).read_text().split("[Unit]")[1] for name in UNITS)
    each = each.replace("CUDA_VISIBLE_DEVICES=%i ", "").replace(", GPU %i", "").replace("@%i", "")
    each = re.sub(r"# Of the machine.*\n", "", each.replace("tracker/%i.yaml", "tracker/tracker.yaml"))
    assert each.replace("-%i", "") == one


EXPECTED = {
    "Type": "notify",
    "Restart": "always",
    "StartLimitBurst": "10",
    "User": "tracker",
    "Group": "tracker",
    "RuntimeDirectoryMode": "0750",
    "StateDirectoryMode": "0700",
    "LoadCredential": "daemon.key",
    "MemoryMax": "80%",
    "LimitCORE": "0",
}


@pytest.mark.parametrize(("key", "value"), EXPECTED.items())
def test_what_clients_and_operators_rely_on(key: str, value: str) -> None:
    assert f"\n{key}={value}\n" in (FOLDER / "tracker.service").read_text()


def test_the_watchdog_leaves_the_daemon_time_to_end_by_itself() -> None:
    (seconds,) = re.findall(r"^WatchdogSec=(\d+)$", (FOLDER / "tracker.service").read_text(), re.MULTILINE)
    assert int(seconds) > PATIENCE_S["main"] + STOP_IN_STEP_S + 1


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here")
def test_the_user_has_the_groups_of_the_unit(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", str(FOLDER / "sysusers.conf")]
    made = subprocess.run(command, capture_output=True, text=True)
    if "Operation not permitted" in made.stderr or "Permission denied" in made.stderr:
        pytest.skip("making users below a folder needs root")
    assert made.returncode == 0, made.stderr
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups["video"].endswith(":tracker")
    assert groups["render"].endswith(":tracker")
    (user,) = [u for u in (tmp_path / "etc/passwd").read_text().splitlines() if u.startswith("tracker:")]
    assert user.endswith(":/usr/sbin/nologin")
    made = subprocess.run(
        ["systemd-tmpfiles", "--create", f"--root={tmp_path}", str(FOLDER / "tmpfiles.conf")],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    modes = {path: oct((tmp_path / path).stat().st_mode & 0o777) for path in ("etc/tracker", "etc/tracker/keys")}
    assert modes == {"etc/tracker": "0o750", "etc/tracker/keys": "0o700"}
