"""systemd's side of sd_notify, and a whole daemon as its service: a process with the blob engine."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack
import yaml
import zmq

from helpers.fakes import BlobEngine
from helpers.preloaded import Forked

PATIENCE_S = 180.0


def serve(hung_s: float, *arguments: str) -> None:
    """`trackerd serve` as it is but for the model, which hangs where the folder has a file `hang`."""
    from tracker.cli.trackerd import main
    from tracker.daemon import serve, watch

    class Engine(BlobEngine):
        def warm_up(self) -> None:
            pass

        def propagate(self, *args: Any) -> Any:
            while Path("hang").exists():
                time.sleep(0.01)
            return super().propagate(*args)

    watch.PATIENCE_S = {"main": hung_s}
    watch.STOP_IN_STEP_S = 0.3
    vars(serve).update(load_model=lambda _: None, Engine=lambda *_: Engine())
    sys.argv = ["trackerd", "serve", *arguments]
    main()


class Service:
    """A daemon in a process of its own, in `folder`, with `config.yaml` there; reports to a socket of ours."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        *options: str,
        hung_s: float = 60.0,
        watchdog_s: float | None = None,
    ):
        self.folder = folder
        self.configure(config)
        self.said: list[str] = []  # messages so far
        self._options = options
        self._hung_s = hung_s
        self._watchdog_s = watchdog_s
        self._context = zmq.Context()

    def configure(self, config: dict[str, Any]) -> None:
        sockets = {name: {"endpoint": f"ipc://{self.folder}/{name}.sock"} for name in ("control", "publish")}
        sections = {name: {**socket, **config.get(name, {})} for name, socket in sockets.items()}
        (self.folder / "config.yaml").write_text(yaml.safe_dump({**config, **sections}))

    def __enter__(self) -> "Service":
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.folder / "notify"))
        self._notify.settimeout(PATIENCE_S)
        environment = {"NOTIFY_SOCKET": str(self.folder / "notify")}
        if self._watchdog_s is not None:
            environment["WATCHDOG_USEC"] = str(round(self._watchdog_s * 1e6))
        arguments = (self._hung_s, "-c", "config.yaml", *self._options)
        log = self.folder / "log"
        self.process = Forked(serve, *arguments, log=log, cwd=self.folder, **environment)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self._notify.close()
        (self.folder / "notify").unlink()
        self._context.term()

    def wait_for(self, wanted: str | Callable[[str], object]) -> str:
        """Until systemd would have read a message that is `wanted`, or that it finds right."""
        is_wanted = wanted if callable(wanted) else lambda message: wanted in message.splitlines()
        while True:
            message = self._notify.recv(4096).decode()
            self.said.append(message)
            if is_wanted(message):
                return message

    def wait_for_silence(self, seconds: float) -> None:
        """Until nothing has come for so long."""
        self._notify.settimeout(seconds)
        try:
            while True:
                self.said.append(self._notify.recv(4096).decode())
        except TimeoutError:
            self._notify.settimeout(PATIENCE_S)

    def drain(self) -> None:
        """What was said so far is old."""
        self._notify.setblocking(False)
        try:
            while True:
                self.said.append(self._notify.recv(4096).decode())
        except BlockingIOError:
            self._notify.settimeout(PATIENCE_S)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, op: str, **args: Any) -> Any:
        with self._context.socket(zmq.REQ) as asking:
            asking.linger, asking.rcvtimeo = 0, round(PATIENCE_S * 1000)
            asking.connect(f"ipc://{self.folder}/control.sock")
            asking.send(msgpack.packb({"id": 1, "op": op, "args": args}))
            reply = msgpack.unpackb(asking.recv())
        assert reply["ok"], reply
        return reply["result"]
