"""Kill a daemon again and again while objects are added, refined and removed, and count what was lost.

Every acknowledged change must be there afterwards; the one that was not acknowledged is there wholly or not at all.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import msgpack
import numpy as np
import yaml
import zmq

from benches.report import Row
from tracker.images.video_writer import VideoWriter

START_S = 120.0
SIZE_WH = (160, 120)


def film(path: Path) -> Path:
    """A bright square at rest, and a bit of noise."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, SIZE_WH, 10) as video:
        for _ in range(50):
            picture = rng.integers(50, 70, (SIZE_WH[1], SIZE_WH[0], 3)).astype(np.uint8)
            cv2.rectangle(picture, (60, 40), (99, 79), (230, 230, 230), -1)
            video.write(picture)
    return path


class Victim:
    """A daemon on a state folder, and what it has acknowledged."""

    def __init__(self, folder: Path) -> None:
        self._config = folder / "tracker.yaml"
        self.log = folder / "daemon.log"
        self._endpoint = f"ipc://{folder}/control.sock"
        settings = {
            "model": {"name": "nano", "device": "cpu", "image_size": 128},
            "engine": {"threads": 1},
            "control": {"endpoint": self._endpoint},
            "publish": {"endpoint": f"ipc://{folder}/publish.sock"},
            "persist": {"dir": str(folder / "state"), "interval_s": 0.2},
            "streams": {"cam": {"url": str(film(folder / "film.mp4")), "loop": True}},
        }
        self._config.write_text(yaml.safe_dump(settings))
        self._context = zmq.Context()
        self.there: set[int] = set()
        self.labels: dict[int, str] = {}  # that were acknowledged
        self.used: set[int] = set()
        self.newest_frame = -1
        self.acknowledged = 0
        self.open: dict[str, Any] = {"op": ""}  # what was asked for last, and not answered

    def start(self) -> "subprocess.Popen[bytes]":
        trackerd = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()"]
        with self.log.open("wb") as log:
            return subprocess.Popen([*trackerd, "serve", "-c", str(self._config)], stderr=log)

    def connected(self) -> "zmq.Socket[bytes]":
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(self._endpoint)
        return socket

    def await_loaded(self, process: "subprocess.Popen[bytes]") -> float:
        """Wait until the log says that the daemon serves; returns when, by the monotonic clock."""
        deadline_s = time.monotonic() + START_S
        while b" serving " not in self.log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise TimeoutError(f"the daemon does not serve: {self.log.read_text()[-500:]}")
            time.sleep(0.02)
        return time.monotonic()

    def change(self, rng: random.Random, socket: "zmq.Socket[bytes]", process: "subprocess.Popen[bytes]") -> bool:
        """One request; False where the daemon was gone before the reply."""
        if self.there and rng.random() < 0.4:
            gone = rng.choice(sorted(self.there))
            request: dict[str, Any] = {"op": "objects.remove", "args": {"stream": "cam", "object": gone}}
        elif self.there and rng.random() < 0.3:
            args = {"stream": "cam", "object": rng.choice(sorted(self.there)), "points": [[80, 60]]}
            request = {"op": "objects.refine", "args": args}
        elif self.there and rng.random() < 0.4:
            one = rng.choice(sorted(self.there))
            args = {"stream": "cam", "object": one, "label": f"{rng.random()}"}
            request = {"op": "objects.update", "args": args}
        else:
            args = {"stream": "cam", "box": [60, 40, 100, 80]}
            request = {"op": "objects.add", "args": args}
        socket.send(b"", zmq.SNDMORE)
        socket.send(msgpack.packb({"id": 1, **request}))
        while not socket.poll(20):
            if process.poll() is not None:
                self.open = request
                return False
        reply = msgpack.unpackb(socket.recv_multipart()[-1])
        if reply["ok"]:
            assert reply["result"]["durable"], reply
            self._note(request, reply["result"])
        return True

    def _note(self, request: dict[str, Any], result: dict[str, Any]) -> None:
        self.acknowledged += 1
        if request["op"] == "objects.add":
            self.there.add(result["object"])
            self.used.add(result["object"])
            self.newest_frame = max(self.newest_frame, result["frame"])
        elif request["op"] == "objects.update":
            self.labels[result["object"]] = result["label"]
        elif request["op"] == "objects.remove":
            self.there -= set(result["removed"])

    def look(
        self, socket: "zmq.Socket[bytes]", process: "subprocess.Popen[bytes]"
    ) -> tuple[dict[int, str | None], int]:
        """The labels of the objects there are, and the newest frame; once there is one."""
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            streams = self.ask(socket, process, "streams.list")["streams"]
            if streams and streams[0]["frame"] is not None:
                objects = self.ask(socket, process, "objects.list")["objects"]
                return {o["object"]: o["label"] for o in objects}, streams[0]["frame"]
            time.sleep(0.02)
        raise TimeoutError("no frame came")

    def ask(self, socket: "zmq.Socket[bytes]", process: "subprocess.Popen[bytes]", op: str) -> Any:
        socket.send(b"", zmq.SNDMORE)
        socket.send(msgpack.packb({"id": 1, "op": op}))
        deadline_s = time.monotonic() + START_S
        while not socket.poll(100):
            if process.poll() is not None or time.monotonic() > deadline_s:
                raise TimeoutError(f"{op}: the daemon does not answer; it ended with {process.poll()}")
        return msgpack.unpackb(socket.recv_multipart()[-1])["result"]


@dataclass(frozen=True, slots=True)
class Life:
    """One life of the daemon."""

    loaded_s: float  # until the model was loaded and warm
    answered_s: float  # from then to the first answer
    wrong: int  # acknowledged things that were not right


def lived(victim: Victim, rng: random.Random) -> Life:
    began_s = time.monotonic()
    with victim.start() as process, victim.connected() as socket:
        loaded_s = victim.await_loaded(process) - began_s
        victim.ask(socket, process, "server.info")
        answered_s = time.monotonic() - began_s - loaded_s
        labels, frame = victim.look(socket, process)
        there = set(labels)
        open_request = victim.open
        missing, more = victim.there - there, there - victim.there
        may_miss = {open_request["args"]["object"]} if open_request["op"] == "objects.remove" else set()
        may_have = 1 if open_request["op"] == "objects.add" else 0
        wrong = len(missing - may_miss) + max(0, len(more) - may_have) + len(more & victim.used)
        wrong += frame <= victim.newest_frame
        being_updated = open_request["args"]["object"] if open_request["op"] == "objects.update" else None
        known = [i for i in there & victim.labels.keys() if i != being_updated]
        wrong += sum(labels[i] != victim.labels[i] for i in known)
        victim.labels = {i: label for i, label in labels.items() if label is not None}
        victim.there, victim.used = there, victim.used | there
        killer = threading.Timer(rng.uniform(0.1, 2.0), os.kill, (process.pid, signal.SIGKILL))
        killer.start()
        while victim.change(rng, socket, process):
            pass
        killer.join()
    return Life(loaded_s, answered_s, wrong)


def rows(args: argparse.Namespace) -> Iterator[Row]:
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        victim = Victim(Path(folder))
        lives = [lived(victim, rng) for _ in range(args.runs)]
    answers_s = sorted(life.answered_s for life in lives)
    yield {
        "killed": args.runs,
        "acknowledged": victim.acknowledged,
        "lost or wrong": sum(life.wrong for life in lives),
        "model loaded s, at most": round(max(life.loaded_s for life in lives), 1),
        "first answer after that s, median": round(answers_s[args.runs // 2], 2),
        "at most": round(answers_s[-1], 2),
    }
