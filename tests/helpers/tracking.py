"""A whole daemon in this process: real sockets, real files, real threads; only the model is the blob engine."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import cv2
import msgpack
import numpy as np
import yaml
import zmq

from helpers.fakes import BlobEngine
from helpers.waiting import PATIENCE_S as PATIENCE_S
from helpers.waiting import wait_until as wait_until
from tracker.config import Config, parse
from tracker.daemon.daemon import Daemon
from tracker.daemon.state_folder import open_store
from tracker.images.video_writer import VideoWriter

SIZE_WH = (160, 120)
Message = dict[str, Any]


def blobs(path: Path, frames: int = 60, fps: float = 20, hidden: range = range(0)) -> Path:
    """A video of two bright squares on dark grey, 20 pixels wide: one goes right by a pixel a frame, starting at
    (20, 30), and is away in the frames of `hidden`; the other rests with its centre at (120, 90)."""
    with VideoWriter(path, SIZE_WH, fps) as video:
        for index in range(frames):
            picture = np.full((SIZE_WH[1], SIZE_WH[0], 3), 60, np.uint8)
            cv2.rectangle(picture, (110, 80), (129, 99), (255, 255, 255), -1)
            if index not in hidden:
                x = 10 + index % 80
                cv2.rectangle(picture, (x, 20), (x + 19, 39), (255, 255, 255), -1)
            video.write(picture)
    return path


class Talk:
    """The wire as another program sees it."""

    def __init__(self, daemon: Daemon, token: bytes | None = None) -> None:
        """`token` makes it the same client as another one that has it."""
        self.daemon = daemon
        self.token = token or os.urandom(16)
        self.image = b""  # that came with the last message
        self._context = zmq.Context()
        self._control = self._socket(zmq.REQ, daemon.control.endpoint)
        self._sub = self._socket(zmq.SUB, daemon.publisher.endpoint)

    def _socket(self, kind: int, endpoint: str) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        socket.linger, socket.rcvtimeo = 0, round(PATIENCE_S * 1000)
        if kind == zmq.REQ:
            socket.setsockopt(zmq.IDENTITY, self.token + os.urandom(8))
        socket.connect(endpoint)
        return socket

    def close(self) -> None:
        self._control.close()
        self._sub.close()
        self._context.term()

    def reply(self, op: str, **args: Any) -> Message:
        self._control.send(msgpack.packb({"id": 7, "op": op, "args": args}))
        reply: Message = msgpack.unpackb(self._control.recv())
        assert reply["id"] == 7
        return reply

    def ask(self, op: str, **args: Any) -> Message:
        reply = self.reply(op, **args)
        assert reply["ok"], reply
        result: Message = reply["result"]
        return result

    def refused(self, op: str, **args: Any) -> tuple[str, str]:
        """Code and message."""
        reply = self.reply(op, **args)
        assert not reply["ok"], reply
        return reply["error"]["code"], reply["error"]["message"]

    def wait_for_frame(self, index: int) -> None:
        """Until the one stream has decoded frame `index`."""
        wait_until(lambda: self.ask("streams.list")["streams"][0]["decoded"] > index)

    def subscribe(self, topic: str) -> None:
        self._sub.subscribe(topic)
        wait_until(lambda: self.daemon.publisher.wanted(topic))

    def receive(self) -> tuple[str, Message]:
        topic, payload, *images = self._sub.recv_multipart()
        self.image = b"".join(images)
        return topic.decode(), msgpack.unpackb(payload)

    def receive_until(self, wanted: Callable[[Message], object]) -> Message:
        """The first message that is as wanted; all before it are thrown away."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            _, message = self.receive()
            if wanted(message):
                return message
            assert time.monotonic() < deadline_s, f"not in {PATIENCE_S} s; last: {message}"


def configuration(**sections: Any) -> Config:
    """A configuration on free ports of this machine."""
    free = {"endpoint": "tcp://127.0.0.1:*"}
    ports = {name: {**free, **sections.pop(name, {})} for name in ("control", "publish")}
    return parse(yaml.safe_dump({**ports, **sections}))


@contextmanager
def serving(config: Config, engine: Any = None, read_config: Callable[[], Config] | None = None) -> Iterator[Talk]:
    """Runs a daemon on a thread of its own, and ends it."""
    store = open_store(config.persist)
    daemon = Daemon(config, engine or cast(Any, BlobEngine()), store, read_config=read_config)
    thread = threading.Thread(target=daemon.run, name="daemon")
    thread.start()
    wait_until(lambda: daemon.ready.is_set() or not thread.is_alive())
    talk = Talk(daemon)
    try:
        yield talk
    finally:
        talk.close()
        daemon.stop()
        thread.join()
