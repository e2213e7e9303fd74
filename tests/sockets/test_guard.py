"""CURVE on both sockets, with real clients: who is allowed where, who is not, and who is no longer."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.binds import BINDS, reached
from helpers.waiting import wait_until
from tracker.client import connection
from tracker.client.asyncio_client import AsyncClient
from tracker.client.client import Client
from tracker.config import Config, ControlConfig, KeysConfig, PublishConfig
from tracker.errors import Forbidden, Timeout
from tracker.protocol import keys, replies
from tracker.protocol.messages import Event
from tracker.sockets.access import check, guard_of
from tracker.sockets.control import ControlServer
from tracker.sockets.publisher import Publisher
from tracker.sockets.request import Request

REFUSED_S = 0.7  # of silence


class Sockets:
    """Both sockets of a daemon with keys, and what reached its handler."""

    def __init__(self, folder: Path, bind: str = "tcp://127.0.0.1:*") -> None:
        self.folder = folder
        keys.write_pair(folder / "daemon.key", keys.new_pair())
        for name, lists in {"both": keys.SOCKETS, "listener": ("publish",), "stranger": ()}.items():
            pair = keys.new_pair(keys.daemon_pair(folder).public)
            keys.write_pair(folder / f"{name}.key", pair)
            keys.allow(folder, name, pair.public, lists)
        wrong = keys.new_pair(server=keys.new_pair().public)
        keys.write_pair(folder / "wrong-server.key", wrong)
        config = Config(keys=KeysConfig(dir=str(folder)))
        self.handled: list[Request] = []
        self.publisher = Publisher(bind, 10, "i1", guard=guard_of(config, "publish"))
        self.publisher.start()
        self.control = ControlServer(bind, self._handle, {"streams.list"}, "i1", guard=guard_of(config, "control"))
        self.control.start()

    def _handle(self, request: Request) -> None:
        self.handled.append(request)
        request.reply(replies.StreamList(streams=[]))

    def client(self, name: str | None, timeout_s: float = 20) -> Client:
        key = None if name is None else self.folder / f"{name}.key"
        control, publish = reached(self.control.endpoint), reached(self.publisher.endpoint)
        return Client(control, publish, timeout_s=timeout_s, key=key)

    def stop(self) -> None:
        self.control.stop()
        self.publisher.stop()


@pytest.fixture
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sockets]:
    monkeypatch.delenv("TRACKER_KEY", raising=False)
    sockets = Sockets(tmp_path)
    yield sockets
    sockets.stop()


def test_who_is_allowed_is_served_on_both(sockets: Sockets) -> None:
    with sockets.client("both") as client:
        assert client.streams().streams == []
        with client.subscribe(None, ["events"]) as messages:
            wait_until(lambda: sockets.publisher.wanted("events/cam1/"))
            event = Event(event="overload", stream="cam1", frame=0, epoch=0, time=1.0, message="")
            sockets.publisher.publish("events/cam1/", event)
            assert next(messages).topic == "events/cam1/"
    assert sockets.handled[0].owner.decode() == keys.read_pair(sockets.folder / "both.key").public


@pytest.mark.parametrize("name", [None, "stranger", "listener", "wrong-server"])
def test_who_is_not_gets_no_answer_and_nothing_is_executed(sockets: Sockets, name: str | None) -> None:
    with sockets.client(name, REFUSED_S) as client, pytest.raises(Timeout):
        client.streams()
    assert sockets.handled == []


def test_a_refused_key_is_logged_once(sockets: Sockets, caplog: pytest.LogCaptureFixture) -> None:
    public = keys.read_pair(sockets.folder / "stranger.key").public
    for _ in range(3):
        with sockets.client("stranger", REFUSED_S) as client, pytest.raises(Timeout):
            client.streams()
    assert sum(public in record.getMessage() for record in caplog.records) == 1


NOT_LISTENING = "refuses this key: let it listen"


def may_ask_only(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_S", 0.2)
    public = keys.read_pair(sockets.folder / "stranger.key").public
    keys.allow(sockets.folder, "stranger", public, ("control",))


def test_who_may_ask_but_not_listen_is_told(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZeroMQ never connects again where a key was refused: without a word, a subscriber would wait for ever."""
    may_ask_only(sockets, monkeypatch)
    with (
        sockets.client("stranger") as client,
        client.subscribe(None, timeout_s=20) as messages,
        pytest.raises(Forbidden, match=NOT_LISTENING),
    ):
        next(messages)


def test_who_may_ask_but_not_listen_is_told_by_the_asynchronous_client_too(
    sockets: Sockets, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_ask_only(sockets, monkeypatch)

    async def listen() -> None:
        control, publish = sockets.control.endpoint, sockets.publisher.endpoint
        async with (
            AsyncClient(control, publish, key=sockets.folder / "stranger.key") as client,
            client.subscribe(None, timeout_s=20) as messages,
        ):
            await anext(messages)

    with pytest.raises(Forbidden, match=NOT_LISTENING):
        asyncio.run(listen())


def is_refused(client: Client) -> bool:
    try:
        client.streams()
    except (Timeout, Forbidden):
        return True
    return False


def test_a_key_taken_from_the_list_is_refused_at_once_without_a_restart(sockets: Sockets) -> None:
    with sockets.client("both") as client:
        assert client.streams().streams == []
        keys.revoke(sockets.folder, "both")
        client.timeout_s = REFUSED_S
        wait_until(lambda: is_refused(client))


@pytest.mark.parametrize("bind", BINDS)
def test_who_listens_is_shut_out_once_its_key_is_taken_from_the_list(
    bind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRACKER_KEY", raising=False)
    monkeypatch.setattr(connection, "SILENCE_S", 0.2)
    sockets = Sockets(tmp_path, bind)
    try:
        with sockets.client("both") as client, client.subscribe(None, ["events"], timeout_s=20) as messages:
            wait_until(lambda: sockets.publisher.wanted("events/cam1/"))
            keys.revoke(sockets.folder, "both", ("publish",))
            with pytest.raises(Forbidden, match=NOT_LISTENING):  # it was let in, shut, and is refused now
                next(messages)
    finally:
        sockets.stop()


def test_an_environment_variable_names_the_key(sockets: Sockets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_KEY", str(sockets.folder / "both.key"))
    with sockets.client(None) as client:
        assert client.streams().streams == []


def test_a_network_may_be_bound_with_keys_only(sockets: Sockets) -> None:
    check(
        Config(
            control=ControlConfig(endpoint="tcp://0.0.0.0:5570"),
            publish=PublishConfig(endpoint="tcp://0.0.0.0:5571"),
            keys=KeysConfig(dir=str(sockets.folder)),
        )
    )
