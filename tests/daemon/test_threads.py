"""Each thread made to raise in turn: what all need ends the process, its state saved; the rest ends nothing."""

import logging
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest
import zmq
from msgspec import structs

from helpers.fakes import BlobEngine
from helpers.tracking import Talk, configuration, wait_until
from helpers.waiting import in_background
from tracker.config import Config, KeysConfig
from tracker.daemon import delivery, watch
from tracker.daemon.daemon import Daemon
from tracker.daemon.descriptions import Descriptions
from tracker.daemon.discovery import Discovery
from tracker.daemon.figures import Figures
from tracker.daemon.lifecycle import ObjectLifecycle
from tracker.daemon.looks.reader import LookReader
from tracker.daemon.restore import Restorer
from tracker.daemon.state_folder import open_store
from tracker.daemon.zones import Zones
from tracker.images import imaging
from tracker.labels.labeller import Labeller
from tracker.protocol import codec, keys
from tracker.protocol.keys import AllowList
from tracker.registry.store import Store
from tracker.sockets.publisher import Publisher
from tracker.streams.stream import Stream

RESTING = [120, 90]
Fault = tuple[Any, str]  # of an object or module, what is made to raise


@pytest.fixture
def config(film: Path, tmp_path: Path) -> Config:
    return configured(film, tmp_path)


def configured(film: Path, folder: Path, **sections: Any) -> Config:
    return configuration(
        streams={"cam": {"url": str(film), "loop": True}},
        persist={"dir": str(folder / "state"), "interval_s": 0.05},
        metrics={"endpoint": "127.0.0.1:0"},
        **sections,
    )


class Run:
    """A daemon on a thread of its own, and what ended it."""

    def __init__(self, config: Config) -> None:
        self.daemon = Daemon(config, cast(Any, BlobEngine()), open_store(config.persist))
        self.error: Exception | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.daemon.run()
        except Exception as error:  # noqa: BLE001
            self.error = error

    @property
    def failures(self) -> dict[str, int]:
        return self.daemon._context.failures.counts()


@contextmanager
def running(config: Config) -> Iterator[Run]:
    run = Run(config)
    run.thread.start()
    try:
        wait_until(lambda: run.daemon.ready.is_set() or not run.thread.is_alive())
        yield run
    finally:
        run.daemon.stop()
        run.thread.join(30)
        assert not run.thread.is_alive()


def follow(run: Run) -> None:
    """An object that is followed, and acknowledged."""
    talk = Talk(run.daemon)
    try:
        talk.wait_for_frame(0)
        assert talk.ask("objects.add", stream="cam", points=[RESTING])["durable"]
    finally:
        talk.close()


def a_bug(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


def an_exit(*_: Any, **__: Any) -> Any:
    raise SystemExit("a bug")


REQUESTS = {
    "frames.get": {"stream": "cam"},
    "search.similar": {"stream": "cam", "object": 1},
    "history.list": {},
    "server.info": {},
}


@contextmanager
def prodded(run: Run) -> Iterator[None]:
    """Every thread has something to do, again and again."""

    def prod(done: threading.Event) -> None:
        with zmq.Context() as context, context.socket(zmq.SUB) as sub, context.socket(zmq.DEALER) as dealer:
            sub.linger = dealer.linger = 0
            sub.subscribe("")
            sub.connect(run.daemon.publisher.endpoint)
            dealer.connect(run.daemon.control.endpoint)
            while not done.is_set():
                for op, args in REQUESTS.items():
                    if dealer.poll(0, zmq.POLLOUT):
                        dealer.send(msgpack.packb({"op": op, "args": args}))
                while dealer.poll(20):
                    dealer.recv()

    with in_background(prod):
        yield


# The thread, and what is made to raise in it.
NEEDED: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "main": (ObjectLifecycle, "expire", a_bug),
    "control": (codec, "parse_request", a_bug),
    "publish": (Publisher, "_send", a_bug),
    "delivery": (Zones, "wanted", a_bug),  # on every frame
    "registry": (Store, "_answer_questions", a_bug),
    "looks": (LookReader, "find", an_exit),
    "pictures": (imaging, "encode", an_exit),
    "watch": (watch, "resident_bytes", a_bug),
}


@pytest.mark.parametrize("name", NEEDED)
def test_what_all_need_ends_the_process_with_an_error_and_its_state_saved(
    config: Config, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(delivery, "MAX_IN_A_ROW", 5)
    with running(config) as run:
        follow(run)
        with monkeypatch.context() as broken, prodded(run):
            broken.setattr(*NEEDED[name])
            wait_until(lambda: not run.thread.is_alive())
    assert run.error is not None
    said = f"{run.error} {caplog.text}"
    assert name in said
    assert "a bug" in said
    store = open_store(config.persist)
    assert store is not None
    store.stop(30)
    (stream,), (kept,) = store.saved.streams, store.saved.objects
    assert kept.saved.id == 1
    assert stream.next_frame == run.daemon._table.stream("cam").source.decoded  # written at the end: not ahead


# The work, and what is made to raise in it.
OPTIONAL: dict[str, tuple[Any, str, Callable[..., Any]]] = {
    "status": (BlobEngine, "memory", a_bug),
    "metrics": (Figures, "collect", a_bug),
    "labels": (Labeller, "tick", a_bug),
    "descriptions": (Descriptions, "tick", a_bug),
    "discovery": (Discovery, "tick", a_bug),
    "restore": (Restorer, "tick", a_bug),
    "looks": (LookReader, "find", a_bug),
    "pictures": (imaging, "encode", a_bug),
    "delivery": (delivery, "tracks_message", a_bug),
}


@pytest.mark.parametrize("work", OPTIONAL)
def test_what_none_needs_is_said_and_counted_and_ends_nothing(
    config: Config, work: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(config) as run:
        follow(run)
        with monkeypatch.context() as broken, prodded(run):
            broken.setattr(*OPTIONAL[work])
            wait_until(lambda: scraped(run) is not None and run.failures.get(work, 0) >= 2)
        before = step(run)
        wait_until(lambda: step(run) > before + 2)
        assert run.error is None
        wait_until(lambda: f'tracker_failures_total{{work="{work}"}}' in (scraped(run) or ""))
    logged = [
        r for r in caplog.records if r.levelno >= logging.ERROR and r.getMessage().startswith(f"{work} failed")
    ]
    assert len(logged) == 1, "the same failure is said once"


def step(run: Run) -> int:
    return run.daemon._table.stream("cam").step


def scraped(run: Run) -> str | None:
    """The metrics; none where they cannot be had."""
    url = f"http://127.0.0.1:{run.daemon.metrics.port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return str(reply.read().decode())
    except urllib.error.HTTPError as error:
        error.close()
        return ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_without_whoever_judges_keys_the_process_ends(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "keys"
    pair = keys.new_pair()
    folder.mkdir()
    keys.write_pair(folder / "daemon.key", pair)
    guarded = structs.replace(config, keys=KeysConfig(dir=str(folder)))
    with running(guarded) as run, zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        monkeypatch.setattr(AllowList, "name_of", a_bug)
        peer.linger = 0
        peer.curve_serverkey = pair.public.encode()
        peer.curve_publickey, peer.curve_secretkey = zmq.curve_keypair()
        peer.connect(run.daemon.control.endpoint)
        wait_until(lambda: not run.thread.is_alive())
    assert "the thread 'control' has died" in str(run.error)


def test_a_stream_whose_thread_raises_fails_alone(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(config) as run:
        follow(run)
        monkeypatch.setattr(Stream, "_await_turn", a_bug)
        source = run.daemon._table.stream("cam").source
        wait_until(lambda: source.state == "failed")
        assert source.error == "internal error: RuntimeError"
        monkeypatch.undo()
        source.resume()
        wait_until(lambda: source.state == "live")
        assert run.error is None
