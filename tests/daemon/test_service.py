"""The daemon as a service: what it tells systemd, and what becomes of it when it hangs."""

import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.service_manager import PATIENCE_S, Service
from helpers.tracking import wait_until
from tracker.config import PersistConfig
from tracker.daemon.state_folder import open_store
from tracker.daemon.systemd import Notifier, watchdog_s
from tracker.daemon.watch import control_group_bounds


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


class TestNotifier:
    @pytest.mark.parametrize("abstract", [False, True])
    def test_it_speaks_sd_notify(self, tmp_path: Path, abstract: bool) -> None:
        name = f"@tracker-test-{os.getpid()}" if abstract else str(tmp_path / "n")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind("\0" + name[1:] if abstract else name)
            notifier = Notifier({"NOTIFY_SOCKET": name})
            notifier.status("2 of 3 streams\nlive\x1b[31m")
            notifier.status("2 of 3 streams\nlive\x1b[31m")
            notifier.ready()
            notifier.reloading()
            notifier.stopping()
            listening.settimeout(10)
            said = [listening.recv(4096).decode() for _ in range(4)]
        assert said[:2] == ["STATUS=2 of 3 streams live [31m", "READY=1"]
        reloading, monotonic = said[2].splitlines()
        assert reloading == "RELOADING=1"
        assert monotonic.removeprefix("MONOTONIC_USEC=").isdecimal()
        assert said[3].splitlines()[0] == "STOPPING=1"

    def test_progress_is_told_four_times_as_often_as_is_wanted(self, systemd: socket.socket) -> None:
        path = systemd.getsockname()
        Notifier({"NOTIFY_SOCKET": path}).progress()
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)
        notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000000"})
        for _ in range(3):
            notifier.progress()
        assert systemd.recv(4096) == b"WATCHDOG=1"
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)

    @pytest.mark.parametrize(
        ("environment", "seconds"),
        [
            ({}, 0),
            ({"WATCHDOG_USEC": "20000000"}, 20),
            ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 20),
            ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0),
            ({"WATCHDOG_USEC": "soon"}, 0),
        ],
    )
    def test_whose_watchdog_it_is(self, environment: dict[str, str], seconds: float) -> None:
        assert watchdog_s(environment) == seconds

    @pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/notify"}])
    def test_without_systemd_nothing_happens(self, environment: dict[str, str]) -> None:
        Notifier(environment).ready()

    def test_a_manager_that_does_not_read_holds_up_nothing(self, systemd: socket.socket) -> None:
        notifier = Notifier({"NOTIFY_SOCKET": systemd.getsockname()})
        for _ in range(2000):  # more than a socket's queue takes
            notifier.ready()


@pytest.mark.parametrize(
    ("limits", "bounds"),
    [
        ({"system.slice/tracker.service": "8000", "system.slice": "max", "": "9000"}, [8000, 9000]),
        ({"system.slice": "7000"}, [7000]),
        ({"user.slice": "1"}, []),
    ],
)
def test_the_bounds_of_the_unit_and_of_all_above_it_count(
    tmp_path: Path, limits: dict[str, str], bounds: list[int]
) -> None:
    own = tmp_path / "cgroup"
    own.write_text("1:name=systemd:/x\n0::/system.slice/tracker.service\n")
    for group, limit in limits.items():
        folder = tmp_path / "groups" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "memory.max").write_text(limit + "\n")
    assert list(control_group_bounds(own, tmp_path / "groups")) == bounds


@pytest.mark.usefixtures("preloaded")
class TestService:
    def test_from_start_to_stop(self, tmp_path: Path, film: Path) -> None:
        streams = {"cam": {"url": str(film), "loop": True}, "dead": {"url": "missing.mp4"}}
        with Service(tmp_path, {"streams": streams}, watchdog_s=0.4) as service:
            service.wait_for("READY=1")
            assert service.said[0] == "STATUS=loading nano"
            assert service.ask("server.info")["pid"] == service.process.pid  # who is ready answers
            assert f"serving 2 streams with nano on cpu: control ipc://{tmp_path}/control.sock" in service.log()
            service.wait_for(lambda said: said.startswith("STATUS=1 of 2 streams live, 0 objects; dead failed: "))
            service.wait_for("WATCHDOG=1")
            service.process.send_signal(signal.SIGTERM)
            service.wait_for("STOPPING=1")
            assert service.process.wait(PATIENCE_S) == 0

    def test_nothing_is_said_for_a_daemon_that_cannot_start(self, tmp_path: Path) -> None:
        (tmp_path / "control.sock").mkdir()  # so that it cannot be bound
        with Service(tmp_path, {}) as service:
            assert service.process.wait(PATIENCE_S) != 0
            service.drain()
            assert "READY=1" not in service.said

    def test_no_serving_is_logged_where_a_socket_cannot_be_bound(self, tmp_path: Path) -> None:
        with (tmp_path / "publish.sock.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with Service(tmp_path, {}) as service:
                assert service.process.wait(PATIENCE_S) != 0
                assert "another daemon is serving it" in service.log()
                assert "serving 0 streams" not in service.log()

    def test_the_watchdog_is_not_fed_while_the_model_hangs(self, tmp_path: Path, film: Path) -> None:
        """A stream whose camera is gone is no reason to starve it; a step that does not end is."""
        with Service(tmp_path, {"streams": {"cam": {"url": str(film), "loop": True}}}, watchdog_s=0.1) as service:
            service.wait_for("READY=1")
            service.wait_for(lambda said: "STATUS=1 of 1 stream live" in said)
            service.ask("objects.add", stream="cam", points=[[120, 90]])
            (tmp_path / "hang").touch()
            service.wait_for_silence(1.0)
            assert service.process.poll() is None

    def test_a_hung_main_loop_ends_the_process_with_its_state_saved(self, tmp_path: Path, film: Path) -> None:
        config = {
            "streams": {"cam": {"url": str(film), "loop": True}},
            "persist": {"dir": str(tmp_path / "state"), "interval_s": 3600.0},
        }
        with Service(tmp_path, config, hung_s=3.0) as service:
            service.wait_for("READY=1")
            service.wait_for(lambda said: "STATUS=1 of 1 stream live" in said)
            added = service.ask("objects.add", stream="cam", points=[[120, 90]])
            wait_until(lambda: service.ask("objects.list")["objects"][0]["age"] > 5)
            (tmp_path / "hang").touch()
            assert service.process.wait(PATIENCE_S) == 1
            assert "the thread 'main' has been stuck" in service.log()
        store = open_store(PersistConfig(dir=str(tmp_path / "state")))
        assert store is not None
        store.start()
        store.stop(30)
        (kept,) = store.saved.objects
        assert kept.saved.id == added["object"]
        assert kept.saved.age > 5  # as it was when it hung, though no interval had passed
