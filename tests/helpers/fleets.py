"""A fleet on this machine: a real NATS server, real daemons with nano at 96 pixels, boxes, and streams for them."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from helpers.proxies import Proxy, proxied
from helpers.waiting import wait_until
from tracker.client import Client
from tracker.client.nats_options import NatsOptions
from tracker.errors import ConfigError, TrackerError
from tracker.fleet import people
from tracker.fleet.buckets import Buckets
from tracker.fleet.reading import all_entries
from tracker.fleet.settings import WantedStream
from tracker.protocol.placement import WHERE

R = TypeVar("R")

Words = Sequence[str | Path]
TRACKERD = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()"]
START_S = 240.0  # for a daemon, on a busy machine
LOOK_S = 0.1  # between two looks at the fleet, each of which makes NATS work
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


class Process(Protocol):
    pid: int

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...


Launch = Callable[[Words, Path], Process]  # `trackerd` with these words, writing into this log


def spawned(words: Words, log: Path) -> Process:
    """As people start it."""
    with log.open("ab") as written:
        return subprocess.Popen(
            [*TRACKERD, *map(str, words)], stdout=written, stderr=written, env={**os.environ, **ONE_THREAD}
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def held_port() -> Iterator[int]:
    """A port that is given to nobody else, also while no server of ours listens there: a server may bind what is
    bound and does not listen."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])


@dataclass
class NatsServer:
    """One `nats-server`, which can be stopped and started again on its files."""

    folder: Path
    port: int
    arguments: Sequence[str] = ()
    has_jetstream: bool = True
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def start(self) -> None:
        command = ["nats-server", "-a", "127.0.0.1", "-p", str(self.port), "-sd", str(self.folder), *self.arguments]
        command += ["-js"] if self.has_jetstream else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._listens, START_S)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def check(self) -> None:
        """Fails, with its last words, where it ended by itself."""
        if self.process is not None:
            status = self.process.poll()
            assert status is None, f"nats-server ended with {status}:\n{self.last_words()}"

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def _listens(self) -> bool:
        self.check()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass
class TestBox:
    """A daemon and its fleet process; both can be killed, stopped and woken together."""

    __test__ = False

    name: str
    folder: Path
    nats: str
    sources: Path
    settings: dict[str, Any] = field(default_factory=dict)
    daemon_settings: dict[str, Any] = field(default_factory=dict)
    launch: Launch = spawned
    daemon: Process | None = None
    fleet: Process | None = None

    @property
    def control(self) -> str:
        return f"ipc://{self.folder}/{self.name}.control"

    def start(self) -> None:
        self.start_daemon()
        self.start_fleet()

    def start_daemon(self) -> None:
        config = {
            "model": {"name": "nano", "device": "cpu", "image_size": 96},
            "engine": {"threads": 1},
            "control": {"endpoint": self.control, "allow_sources": [f"{self.sources}/*"]},
            "publish": {"endpoint": f"ipc://{self.folder}/{self.name}.publish"},
            **self.daemon_settings,
        }
        self.daemon = self.launch(("serve", "-c", self._write("daemon", config)), self._log)

    def start_fleet(self) -> None:
        config = {
            "box": self.name,
            "nats": {"servers": [self.nats]},
            "daemon": {"control": self.control},
            **self.settings,
        }
        self.fleet = self.launch(("fleet", "serve", "-c", self._write("box", config)), self._log)

    def signal(self, number: int) -> None:
        for process in (self.fleet, self.daemon):
            if process is not None and process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        for process in (self.fleet, self.daemon):
            if process is not None:
                process.wait()
        self.fleet = self.daemon = None

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def _log(self) -> Path:
        return self.folder / f"{self.name}.log"

    def _write(self, what: str, config: dict[str, Any]) -> Path:
        path = self.folder / f"{self.name}-{what}.yaml"
        path.write_text(yaml.safe_dump(config))
        return path


@dataclass
class TestFleet:
    """All of it, and what people see of it."""

    __test__ = False

    nats: NatsServer
    boxes: dict[str, TestBox]
    network: Proxy  # between NATS and the last box
    options: NatsOptions  # of who asks the fleet something

    def start_what_is_not_running(self) -> None:
        if self.nats.process is None:
            self.nats.start()
        for box in self.boxes.values():
            if box.daemon is None:
                box.start_daemon()
            if box.fleet is None:
                box.start_fleet()
        self.wait_for_boxes(list(self.boxes))

    def do(self, work: Callable[[Buckets], Awaitable[R]]) -> R:
        """What somebody asks of the fleet, over a connection of its own."""
        self.nats.check()
        return asyncio.run(asyncio.wait_for(people.ask(self.options, work), START_S))

    def apply(self, wanted: dict[str, WantedStream], *, prune: bool = False) -> people.Applied:
        return self.do(lambda buckets: people.apply(buckets, wanted, prune=prune))

    def forget_streams(self) -> None:
        """Until none has a place any more: else one that is wanted anew seems to be live where it was before."""
        self.apply({}, prune=True)

        def none_has_a_place() -> bool:
            with contextlib.suppress(TimeoutError, ConfigError):
                return not self.do(lambda buckets: all_entries(buckets.js, WHERE))
            return False

        wait_until(none_has_a_place, START_S, LOOK_S)

    def state(self) -> people.FleetState:
        """A busy machine's disk lets JetStream hang for seconds: then it is asked again."""
        deadline_s = time.monotonic() + START_S
        while True:
            try:
                return self.do(people.state)
            except (TimeoutError, ConfigError):
                if time.monotonic() > deadline_s:
                    raise

    def live(self) -> dict[str, str]:
        """Live streams, and the box of each."""
        return {s.stream: s.box for s in self.state().streams if s.state == "live" and s.box is not None}

    def wait_for(self, condition: Callable[[dict[str, str]], bool], patience_s: float = START_S) -> dict[str, str]:
        found: dict[str, str] = {}

        def is_so() -> bool:
            nonlocal found
            found = self.live()
            return condition(found)

        try:
            wait_until(is_so, patience_s, LOOK_S)
        except AssertionError:
            logs = "\n".join(f"--- {box.name}\n{box.log()[-3000:]}" for box in self.boxes.values())
            logs += f"\n--- NATS\n{self.nats.last_words()}"
            raise AssertionError(f"waited in vain; live: {found}; {self.state()}\n{logs}") from None
        return found

    def wait_for_boxes(self, names: Sequence[str]) -> None:
        """Until they would take streams."""

        def are_ready() -> bool:
            with contextlib.suppress(TrackerError):
                return {r.box for r in self.state().boxes if r.message is None} >= set(names)
            return False

        try:
            wait_until(are_ready, START_S, LOOK_S)
        except AssertionError:
            raise AssertionError("\n".join(box.log()[-3000:] for box in self.boxes.values())) from None

    @contextmanager
    def client(self, box: str) -> Iterator[Client]:
        with Client(self.boxes[box].control) as client:
            yield client


@contextmanager
def nats_server(folder: Path, arguments: Sequence[str] = (), *, has_jetstream: bool = True) -> Iterator[NatsServer]:
    with held_port() as port:
        server = NatsServer(folder / "nats", port, arguments, has_jetstream)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def running(
    folder: Path,
    names: Sequence[str],
    sources: Path,
    settings: dict[str, dict[str, Any]] | None = None,
    *,
    launch: Launch = spawned,
) -> Iterator[TestFleet]:
    """A fleet of boxes, all of which would take streams; `settings` are those of single boxes."""
    with nats_server(folder) as nats, proxied(nats.port) as network:
        boxes = {
            name: TestBox(name, folder, nats.url, sources, (settings or {}).get(name, {}), launch=launch)
            for name in names
        }
        boxes[names[-1]].nats = f"nats://127.0.0.1:{network.port}"
        with started(TestFleet(nats, boxes, network, NatsOptions([nats.url]))) as fleet:
            yield fleet


@contextmanager
def started(fleet: TestFleet) -> Iterator[TestFleet]:
    try:
        for box in fleet.boxes.values():
            box.start()
        fleet.wait_for_boxes(list(fleet.boxes))
        yield fleet
    finally:
        for box in fleet.boxes.values():
            box.signal(signal.SIGCONT)
            box.kill()
