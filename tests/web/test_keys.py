"""The page and a daemon with CURVE keys: with its key it is a client like any other, without it sees nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from helpers.pages import page_server
from helpers.tracking import Talk, blobs, configuration, serving
from tracker.protocol import keys

PATIENCE_S = 60


@pytest.fixture
def key_folder(tmp_path: Path) -> Path:
    """A daemon's keys, with `page.key` allowed on both sockets and `stranger.key` on none."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    keys.write_pair(folder / "daemon.key", keys.new_pair())
    for name, lists in {"page": keys.SOCKETS, "stranger": ()}.items():
        pair = keys.new_pair(keys.daemon_pair(folder).public)
        keys.write_pair(folder / f"{name}.key", pair)
        keys.allow(folder, name, pair.public, lists)
    return folder


@pytest.fixture
def daemon(key_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    monkeypatch.setenv("TRACKER_KEY", str(key_folder / "page.key"))
    film = {"url": str(blobs(tmp_path / "blobs.mp4")), "loop": True}
    with serving(configuration(keys={"dir": str(key_folder)}, streams={"cam": film})) as talk:
        yield talk


def opened(address: str) -> ClientConnection:
    return connect(f"{address.replace('http', 'ws')}ws", origin=Origin(address.rstrip("/")), proxy=None)


def received(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        data = connection.recv(timeout=PATIENCE_S)
        if isinstance(data, str) and (message := json.loads(data))["kind"] == kind:
            return message


@pytest.mark.parametrize("host", ["127.0.0.1", "*"])
def test_with_its_key_the_page_asks_and_sees(daemon: Talk, host: str) -> None:
    """Also by `control.endpoint` as a daemon on every address has it."""
    control = daemon.daemon.control.endpoint.replace("127.0.0.1", host)
    with page_server(control) as address, opened(address) as connection:
        while received(connection, "daemon")["info"] is None:
            pass
        received(connection, "status")  # the streams are known by now
        connection.send(json.dumps({"kind": "look", "streams": {"cam": 160}}))
        while not isinstance(connection.recv(timeout=PATIENCE_S), bytes):
            pass


def test_with_a_key_that_is_not_allowed_it_says_that_it_has_no_connection(
    daemon: Talk, key_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_KEY", str(key_folder / "stranger.key"))
    with page_server(daemon.daemon.control.endpoint) as address, opened(address) as connection:
        message = received(connection, "daemon")
        while message.get("message") is None:
            message = received(connection, "daemon")
        assert message["info"] is None
