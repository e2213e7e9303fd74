"""`tools/install --systemd` below a folder: everything of it but systemd itself, which does not run in tests.

It sets up three environments of 6 GB, so it is run by name: `tools/test tests/systemd/install_service.py`.
"""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2]
UV = shutil.which("uv") or str(SOURCES / ".uv" / "bin" / "uv")

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="making users and giving them folders needs root"),
    pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="no systemd-sysusers here"),
    pytest.mark.timeout(1800),
]


class Machine:
    """A folder as a machine's root, and the sources that it is installed from."""

    def __init__(self, folder: Path) -> None:
        self.root, self.sources = folder / "root", folder / "sources"
        self.opt = self.root / "opt" / "tracker"
        self.config = self.root / "etc" / "tracker" / "tracker.yaml"
        ignored = shutil.ignore_patterns(".*", "__pycache__", "tests", "*.png")
        shutil.copytree(SOURCES, self.sources, ignore=ignored)

    def install(self, *options: str) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "TRACKER_ROOT": str(self.root), "UV_COMPILE_BYTECODE": "0"}
        script = self.sources / "systemd" / "install.sh"
        return subprocess.run([script, UV, *options], env=environment, capture_output=True, text=True)

    def current(self) -> str:
        return (self.opt / "current").readlink().name

    def run(self, *command: str) -> str:
        program = [str(self.opt / "current" / "bin" / command[0]), *command[1:]]
        environment = {"PATH": "/usr/bin:/bin"}
        done = subprocess.run(program, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One on which it was installed."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    done = machine.install()
    assert done.returncode == 0, done.stderr
    return machine


def test_the_daemon_is_there_with_a_python_that_needs_no_home(machine: Machine) -> None:
    assert machine.run("trackerd", "--version").startswith("trackerd, version ")
    assert machine.run("trackctl", "--help").startswith("Usage: ")
    base = machine.run("python", "-c", "import sys; print(sys.base_prefix)")
    assert base == "/usr" or Path(base).is_relative_to(machine.opt)
    loaded = machine.run("python", "-c", "print(open('/proc/self/maps').read())")
    homes = [line for line in loaded.splitlines() if "/root/" in line or "/home/" in line]
    assert [line for line in homes if str(machine.root) not in line] == []


def test_units_user_folders_and_a_sample_are_in_place(machine: Machine) -> None:
    etc = machine.root / "etc"
    for name in ("tracker.service", "tracker@.service"):
        assert (etc / "systemd/system" / name).read_text() == (SOURCES / "systemd" / name).read_text()
    assert "tracker:x:" in (etc / "passwd").read_text()
    group = next(line for line in (etc / "group").read_text().splitlines() if line.startswith("tracker:"))
    status = machine.config.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, 0, int(group.split(":")[2]))
    assert "nothing wrong" in machine.run("trackerd", "check", "-c", str(machine.config))
    assert (machine.root / "usr/local/bin/trackctl").readlink() == machine.opt / "current/bin/trackctl"
    assert (machine.opt / "current/share/doc/tracker/operations.md").exists()


def test_upgrade_roll_back_and_undo(machine: Machine) -> None:
    first = machine.current()
    # An upgrade takes the sources as they are now, and leaves the configuration alone.
    module = machine.sources / "tracker" / "__init__.py"
    module.write_text(module.read_text().replace('__version__ = "', '__version__ = "9.9.'))
    machine.config.write_text("log: {level: debug}\n")
    assert machine.install().returncode == 0
    second = machine.current()
    assert second != first
    assert "9.9." in machine.run("trackerd", "--version")
    assert machine.config.read_text() == "log: {level: debug}\n"
    # One that does not take the configuration changes nothing.
    machine.config.write_text("logg: {}\n")
    refused = machine.install()
    assert refused.returncode != 0
    assert "nothing was switched" in refused.stderr
    assert machine.current() == second
    assert {path.name for path in (machine.opt / "releases").iterdir()} == {first, second}
    # Back, and away.
    assert machine.install("--rollback").returncode == 0
    assert machine.current() == first
    assert "9.9." not in machine.run("trackerd", "--version")
    assert machine.install("--undo").returncode == 0
    assert not machine.opt.exists()
    assert not list((machine.root / "etc/systemd/system").iterdir())
    assert machine.config.exists()
    assert machine.install("--purge").returncode == 0
    assert not machine.config.parent.exists()


def test_there_is_nothing_to_go_back_to_after_the_first(tmp_path: Path) -> None:
    done = Machine(tmp_path).install("--rollback")
    assert done.returncode != 0
    assert "no release before this one" in done.stderr
