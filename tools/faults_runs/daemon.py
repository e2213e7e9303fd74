"""A real daemon in a process of its own, and what is measured of it while a case runs."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from tracker.client.client import Client
from tracker.errors import TrackerError
from tracker.images.video_writer import VideoWriter

STREAM, SIZE_WH = "cam", (854, 480)
BOX = [330.0, 130.0, 560.0, 350.0]
START_S = 120.0
TRACKERD = ("-c", "from tracker.cli.start import trackerd; trackerd()")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a daemon can be reached; what a peer in a process of its own is told."""

    control_port: int
    publish_port: int

    @property
    def control(self) -> str:
        return f"tcp://127.0.0.1:{self.control_port}"


class Served:
    """`trackerd serve` with `nano` at 128 px, one looped film, one object and one thread."""

    def __init__(
        self,
        folder: Path,
        *,
        memory_mib: int | None = None,
        image_size: int = 128,
        stream: dict[str, Any] | None = None,
        entry: Sequence[str] | None = None,
        publish_hwm: int = 64,
        masks: str = "none",
        **sections: Any,
    ) -> None:
        """`stream` and `sections` are what else the configuration says, of the stream and beside it; `entry` is
        what Python runs instead of `trackerd`."""
        film = folder / "film.mp4"
        if not film.exists():
            _render(film)
        self.target = Target(free_port(), free_port())
        self.control = self.target.control
        self.publish = f"tcp://127.0.0.1:{self.target.publish_port}"
        config = {
            "model": {"name": "nano", "device": "cpu", "image_size": image_size},
            "engine": {"threads": 1},
            "control": {"endpoint": self.control},
            "publish": {"endpoint": self.publish, "send_hwm": publish_hwm, "masks": masks},
            "limits": {"memory_mib": memory_mib},
            "streams": {STREAM: {"url": str(film), "loop": True, "buffer": {"mib": 32.0}} | (stream or {})},
            **sections,
        }
        path = folder / "daemon.yaml"
        path.write_text(yaml.safe_dump(config))
        self.log = folder / "daemon.log"
        with self.log.open("wb") as log:
            command = [sys.executable, *(entry or TRACKERD), "serve", "-c", path]
            self.process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log)
        self._await_object()

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def rss_mib(self) -> float:
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
        except (OSError, IndexError):
            return 0.0

    def stop(self) -> float:
        """Seconds that SIGTERM takes to end it; it is killed after 15."""
        started_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - started_s

    def _await_object(self) -> None:
        deadline_s, refusal = time.monotonic() + START_S, ""
        with Client(self.control, timeout_s=2) as client:
            while time.monotonic() < deadline_s and self.alive():
                try:
                    client.add(STREAM, box=BOX)
                    return
                except TrackerError as error:
                    refusal = error.message
                    time.sleep(0.2)
        self.process.kill()
        self.process.wait()
        raise SystemExit(f"the daemon does not serve: {refusal}\n{self.log.read_text()[-2000:]}")


class Observer:
    """A good client: how long `server.info` takes it, how many frames go on, and the daemon's peak memory."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.latencies_ms: list[float] = []
        self.failed = 0
        self.peak_mib = served.rss_mib()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask), threading.Thread(target=self._weigh)]

    def __enter__(self) -> "Observer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self.latencies_ms, 99)) if self.latencies_ms else float("nan")

    def _ask(self) -> None:
        with Client(self._served.control, timeout_s=10) as client:
            while not self._ended.wait(0.02) and self._served.alive():
                started_s = time.monotonic()
                try:
                    client.info()
                except TrackerError:
                    self.failed += 1
                self.latencies_ms.append((time.monotonic() - started_s) * 1e3)

    def _weigh(self) -> None:
        while not self._ended.wait(0.02):
            self.peak_mib = max(self.peak_mib, self._served.rss_mib())


def steps(control: str, timeout_s: float = 10) -> int:
    """Frames that the stream has processed; -1 where nobody answers."""
    try:
        with Client(control, timeout_s=timeout_s) as client:
            record = next(record for record in client.streams().streams if record.stream == STREAM)
            return record.step
    except TrackerError:
        return -1


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _render(path: Path) -> None:
    """Two seconds of a bright square that moves over grey."""
    with VideoWriter(path, SIZE_WH, 25) as writer:
        for i in range(50):
            rgb_hwc = np.full((SIZE_WH[1], SIZE_WH[0], 3), 80, np.uint8)
            rgb_hwc[140:340, 340 + i : 540 + i] = 230
            writer.write(rgb_hwc)
