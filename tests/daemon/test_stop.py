"""A stop with a part that hangs: it is left behind, and what was to be saved is saved."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import apsw
import msgpack
import msgspec
import pytest

from helpers.fakes import BlobEngine
from helpers.tracking import PATIENCE_S, Talk, configuration, wait_until
from tracker.config import Config
from tracker.daemon import daemon as daemon_module
from tracker.daemon import watch
from tracker.daemon.daemon import Daemon
from tracker.daemon.state_folder import open_store
from tracker.labels import describer
from tracker.registry.rows import SavedObject

pytest.importorskip("openai")

RESTING = [120, 90]
FOR_EVER_S = 3600.0


class SilentServer:
    """Takes requests and never answers, until it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE_S)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self._asking: list[socket.socket] = []

    def wait_until_asked(self) -> None:
        self._asking.append(self._listener.accept()[0])

    def close(self) -> None:
        for one in [self._listener, *self._asking]:
            one.close()


@dataclass
class Run:
    """A daemon that has one object, which went on since it was saved, and waits for a server that never answers."""

    daemon: Daemon
    server: SilentServer
    state: Path
    thread: threading.Thread = field(init=False)

    @property
    def frame(self) -> int:
        """The object's newest."""
        return self.daemon._table.stream("cam").objects[1].frame

    def saved_frame(self) -> int:
        """The same, as it lies in the folder."""
        with closing(apsw.Connection(str(self.state / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            ((record,),) = list(connection.execute("SELECT record FROM objects"))
        return msgspec.msgpack.decode(record, type=SavedObject).frame


@pytest.fixture
def server() -> Iterator[SilentServer]:
    with closing(SilentServer()) as server:
        yield server


@pytest.fixture
def config(film: Path, tmp_path: Path, server: SilentServer) -> Config:
    return configuration(
        streams={"cam": {"url": str(film), "loop": True}},
        persist={"dir": str(tmp_path / "state"), "interval_s": FOR_EVER_S},
        describe={"url": server.url, "model": "m", "timeout_s": 600},
    )


@contextmanager
def hanging(config: Config, server: SilentServer, abandoned: list[str]) -> Iterator[Run]:
    daemon = Daemon(config, cast(Any, BlobEngine()), open_store(config.persist), abandon=abandoned.append)
    run = Run(daemon, server, Path(str(config.persist.dir)))
    run.thread = threading.Thread(target=daemon.run)
    run.thread.start()
    wait_until(lambda: daemon.ready.is_set() or not run.thread.is_alive())
    with closing(Talk(daemon)) as talk:
        talk.wait_for_frame(3)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        describe = {"op": "objects.describe", "args": {"stream": "cam", "object": 1}}
        talk._control.send(msgpack.packb(describe))
        server.wait_until_asked()
        wait_until(lambda: run.frame > run.saved_frame())
        daemon.stop()
        try:
            yield run
        finally:
            server.close()
            run.thread.join(PATIENCE_S)


def test_a_part_that_hangs_is_left_behind(
    config: Config, server: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it would take by itself."""
    monkeypatch.setattr(describer, "STOP_S", FOR_EVER_S)
    monkeypatch.setattr(watch, "STOP_S", FOR_EVER_S)
    abandoned: list[str] = []
    with hanging(config, server, abandoned) as run:
        run.thread.join(PATIENCE_S)
        assert not run.thread.is_alive()
        assert abandoned == []
        assert run.saved_frame() == run.frame


def test_what_is_abandoned_while_a_part_hangs_is_saved_before(
    config: Config, server: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describer, "STOP_S", FOR_EVER_S)
    monkeypatch.setattr(daemon_module, "END_S", FOR_EVER_S)
    monkeypatch.setattr(watch, "STOP_S", 0.1)
    abandoned: list[str] = []
    with hanging(config, server, abandoned) as run:
        wait_until(lambda: bool(abandoned))
        assert run.thread.is_alive()
        assert run.saved_frame() == run.frame
