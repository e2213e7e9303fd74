"""Faults beside hostile peers: disks, subscribers that stand still, noise, kills of the process. Each is a function
of a folder that returns what it measured and what was not held."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgpack
import zmq

from faults_runs.daemon import BOX, STREAM, Observer, Served
from faults_runs.disks import FailingDisk
from tracker.client.client import Client
from tracker.errors import TrackerError
from tracker.protocol.messages import Event, Tracks
from tracker.protocol.operations import OPERATIONS

PATIENCE_S = 60.0
FLAT_MIB = 0.25
Row = Callable[[Path, bool], tuple[str, list[str]]]  # the second argument: shortened, for CI


def full_disk(folder: Path, _: bool) -> tuple[str, list[str]]:
    """A state folder of 1 MB: tracking goes on, an event says so, and saving resumes when there is room."""
    with _tmpfs(folder / "full", "size=1m") as state:
        if state is None:
            return "skipped: nothing can be mounted here", []

        def fill() -> None:
            with suppress(OSError), (state / "more").open("ab") as file:
                while True:
                    file.write(bytes(4096))
                    file.flush()

        return _failing(folder, state / "state", fill, lambda: (state / "more").unlink(), still=fill)


def read_only_disk(folder: Path, _: bool) -> tuple[str, list[str]]:
    """A state folder that is read-only at the start: objects are followed, and saved when it can be written."""
    with _tmpfs(folder / "ro", "size=64m") as mount:
        if mount is None:
            return "skipped: nothing can be mounted here", []
        state = mount / "state"
        state.mkdir()
        _remount(mount, "ro")
        served = Served(folder, persist={"dir": str(state), "interval_s": 0.2})
        try:
            with (
                Client(served.control, timeout_s=30) as client,
                client.subscribe(topics=["events", "tracks"]) as heard,
            ):
                before = client.add(STREAM, box=BOX).durable
                _remount(mount, "rw")
                frames = _frames_until(heard, "persist_recovered", lambda: None)
                after = client.add(STREAM, box=BOX).durable
            alive = served.alive()
        finally:
            served.stop()
    problems = [] if alive else ["it ended"]
    problems += ["durable on a read-only disk"] if before else []
    problems += ["no persist_recovered"] if frames is None else []
    problems += [] if after else ["not durable afterwards"]
    return f"{frames} frames until saving began, durable before: {before}, after: {after}", problems


def vanished_folder(folder: Path, _: bool) -> tuple[str, list[str]]:
    """The same with a state folder that is moved away and back."""
    state, away = folder / "gone", folder / "away"
    return _failing(folder, state, lambda: state.rename(away), lambda: _put_back(away, state))


def stopped_subscriber(folder: Path, short: bool) -> tuple[str, list[str]]:
    """SIGSTOP on one of three subscribers: the others lose none of 3,000 messages, and memory stays."""
    wanted = 300 if short else 3000
    served = Served(folder, image_size=96, stream={"pace": "all"}, publish_hwm=64)
    with ExitStack() as stack:
        stack.callback(served.stop)
        frozen = subprocess.Popen([sys.executable, "-c", _SUBSCRIBER, served.publish], stdout=subprocess.PIPE)
        stack.callback(frozen.wait)
        stack.callback(frozen.kill)
        assert frozen.stdout is not None
        frozen.stdout.read(1)
        client = stack.enter_context(Client(served.control, timeout_s=30))
        others = [stack.enter_context(client.subscribe(STREAM, ["tracks"], timeout_s=30)) for _ in range(2)]
        lost_before = _settle(served, others)
        before_mib = served.rss_mib()
        os.kill(frozen.pid, signal.SIGSTOP)
        lost = sum(_hear(other, wanted // 2) for other in others)
        more_mib = served.rss_mib() - before_mib
        os.kill(frozen.pid, signal.SIGCONT)
    problems = [f"{lost} lost"] if lost else []
    problems += [f"RSS {more_mib:+.1f} MiB"] if more_mib > 5 else []
    return f"{wanted} messages, {lost} lost by the others, RSS {more_mib:+.1f} MiB ({lost_before} before)", problems


def _settle(served: Served, others: "Sequence[Iterator[object]]") -> int:
    """Until a daemon that has just started takes no more memory. Returns how many messages were lost."""
    lost, grown_mib = 0, float("inf")
    deadline_s = time.monotonic() + PATIENCE_S
    while grown_mib > FLAT_MIB and time.monotonic() < deadline_s:
        before_mib = served.rss_mib()
        lost += sum(_hear(other, 100) for other in others)
        grown_mib = served.rss_mib() - before_mib
    return lost


def noise(folder: Path, short: bool) -> tuple[str, list[str]]:
    """Random and mutated requests, one after the other: no crash, answers as fast as ever, memory flat."""
    total = 5_000 if short else 100_000
    served = Served(folder)
    try:
        with Observer(served) as idle:
            time.sleep(3)
        sent = _noise(served, min(1000, total // 5))
        before_mib = served.rss_mib()
        with Observer(served) as observer:
            sent += _noise(served, total - sent)
        more_mib, alive = served.rss_mib() - before_mib, served.alive()
    finally:
        served.stop()
    problems = [] if alive else ["it ended"]
    problems += [f"RSS {more_mib:+.1f} MiB"] if more_mib > 10 else []
    problems += [f"{observer.failed} unanswered"] if observer.failed else []
    bound_ms = max(50.0, 2 * idle.p99_ms)
    problems += ["p99"] if observer.p99_ms > bound_ms and not short else []
    figures = f"{sent} messages, p99 {observer.p99_ms:.0f} ms (idle {idle.p99_ms:.0f}), RSS {more_mib:+.1f} MiB"
    return figures, problems


def read_only_later(folder: Path, _: bool) -> tuple[str, list[str]]:
    """The kernel makes the disk read-only under a running daemon, as it does after an error; it is mounted anew."""
    disk = FailingDisk(folder)
    if (why_not := disk.mount()) is not None:
        return f"skipped: {why_not}", []
    try:
        return _failing(folder, disk.path / "state", disk.fail, disk.mount_anew)
    finally:
        disk.unmount()


def double_start(folder: Path, _: bool) -> tuple[str, list[str]]:
    """A second daemon on the same state is refused, before it loads a model."""
    served = Served(folder, persist={"dir": str(folder / "state")})
    try:
        began_s = time.monotonic()
        command = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()"]
        second = subprocess.run(
            [*command, "serve", "-c", folder / "daemon.yaml"], capture_output=True, text=True, timeout=120
        )
        took_s, alive = time.monotonic() - began_s, served.alive()
    finally:
        served.stop()
    problems = [] if alive else ["the first one ended"]
    problems += [] if second.returncode == 1 and "in use by another daemon" in second.stderr else ["not refused"]
    return f"refused after {took_s:.1f} s", problems


_OF_DISKS = (full_disk, read_only_disk, read_only_later, vanished_folder)
ROWS: dict[str, Row] = {row.__name__: row for row in (*_OF_DISKS, stopped_subscriber, noise, double_start)}

_SUBSCRIBER = """
import sys, zmq
socket = zmq.Context().socket(zmq.SUB)
socket.rcvhwm = 10
socket.connect(sys.argv[1])
socket.subscribe("tracks/")
first = True
while socket.recv_multipart():
    if first:
        print(end="x", flush=True)
    first = False
"""


def _failing(
    folder: Path,
    state: Path,
    breaks: Callable[[], object],
    mends: Callable[[], object],
    still: Callable[[], object] = lambda: None,
) -> tuple[str, list[str]]:
    """Break the state folder of a running daemon, and mend it. `still` keeps it broken: what the daemon replaces
    makes room."""
    served = Served(folder, persist={"dir": str(state), "interval_s": 0.2})
    try:
        with Client(served.control, timeout_s=30) as client, client.subscribe(topics=["events", "tracks"]) as heard:
            if not client.add(STREAM, box=BOX).durable:
                return "not durable before", ["not durable before"]
            breaks()

            def act() -> None:
                still()
                _try_rename(client)

            frames = _frames_until(heard, "persist_failed", act)
            mends()
            more = _frames_until(heard, "persist_recovered", lambda: None)
            durable = client.add(STREAM, box=BOX).durable
        alive = served.alive()
    finally:
        served.stop()
    problems = [] if alive else ["it ended"]
    problems += ["no persist_failed"] if frames is None else []
    problems += ["no persist_recovered"] if more is None else []
    problems += [] if durable else ["not durable afterwards"]
    return f"{frames} frames until the event, {more} until saving resumed, durable again: {durable}", problems


def _frames_until(heard: "Iterator[object]", event: str, act: Callable[[], object]) -> int | None:
    """Frames tracked until an event comes; None where it does not."""
    frames, deadline_s = 0, time.monotonic() + PATIENCE_S
    for message in heard:
        body = message.body  # type: ignore[attr-defined]
        if isinstance(body, Event) and body.event == event:
            return frames
        if isinstance(body, Tracks):
            frames += 1
            if frames % 10 == 1:
                act()
        if time.monotonic() > deadline_s:
            return None
    return None


def _try_rename(client: Client) -> None:
    """A change that makes the state no larger: what did fit fits again."""
    with suppress(TrackerError):
        client.update(STREAM, 1, label="while it fails")


def _put_back(away: Path, state: Path) -> None:
    if state.exists():
        state.rename(state.with_name("made-anew"))
    away.rename(state)


def _hear(subscription: "Iterator[object]", count: int) -> int:
    """How many messages are missing among the next `count`."""
    lost = 0
    for _ in range(count):
        lost += next(subscription).lost  # type: ignore[attr-defined]
    return lost


def _noise(served: Served, count: int) -> int:
    """Send `count` messages, at most 64 without an answer."""
    chance = random.Random(count)
    names = sorted(OPERATIONS.keys() - {"streams.remove", "streams.add", "streams.pause"})
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.linger = 0
        peer.connect(served.control)
        waiting = 0
        for _ in range(count):
            peer.send(_message(chance, names))
            waiting += 1
            while waiting and peer.poll(0 if waiting < 64 else 10_000):
                peer.recv()
                waiting -= 1
            if waiting >= 64:
                break
    return count


def _message(chance: random.Random, names: list[str]) -> bytes:
    kind = chance.random()
    if kind < 0.2:
        return chance.randbytes(chance.randrange(1, 300))
    args = {chance.choice(("stream", "object", "points", "box", "id", "x")): _value(chance, 0) for _ in range(3)}
    request = {"op": chance.choice(names), "id": _value(chance, 2), "args": args}
    message = bytearray(msgpack.packb(request))
    for _ in range(chance.randint(0, 3) if kind < 0.8 else 0):
        message[chance.randrange(len(message))] = chance.randrange(256)
    return bytes(message)


def _value(chance: random.Random, depth: int) -> object:
    plain = (STREAM, -1, 0, 2**63, 1e308, float("nan"), "\x1b[2J", "\u202e", b"\xff" * 9, None, True, [9, 9], BOX)
    if depth > 2 or chance.random() < 0.7:
        return chance.choice(plain)
    return [_value(chance, depth + 1) for _ in range(chance.randrange(5))]


def _remount(mount: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", mount], capture_output=True, check=True)


@contextmanager
def _tmpfs(path: Path, options: str) -> Iterator[Path | None]:
    """A file system of its own; None where this user may mount none."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True)
    if mounted.returncode != 0:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], capture_output=True, check=False)
