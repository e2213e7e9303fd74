"""A fleet among strangers: TLS with certificates of its own to NATS, daemons that take keys alone, over TCP."""

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.certificates import Authority, Certificate, authority
from helpers.fleets import START_S, TRACKERD, TestBox, TestFleet, free_port, nats_server, started
from helpers.hasty import forked
from helpers.listeners import listening
from helpers.proxies import proxied
from tracker.client import AsyncClient, Client
from tracker.client.nats_options import NatsOptions
from tracker.errors import ConfigError, Timeout
from tracker.fleet.settings import WantedStream
from tracker.protocol import keys

pytestmark = [pytest.mark.nats, pytest.mark.timeout(900)]  # daemons start slowly on a busy machine

RESTING = (110, 80, 130, 100)
NAMES = ["gate", "yard"]


@dataclass(frozen=True, slots=True)
class Secured:
    fleet: TestFleet
    reader_key: Path  # that all daemons allow


def daemon_keys(folder: Path, reader: keys.KeyPair) -> Path:
    """A daemon's folder of keys: its box (box.key) and the reader are allowed. Returns the box's key file."""
    folder.mkdir(mode=0o700)
    daemon = keys.new_pair()
    keys.write_pair(keys.key_path(folder, "daemon"), daemon)
    box = keys.new_pair(daemon.public)
    keys.write_pair(keys.key_path(folder, "box"), box)
    keys.allow(folder, "box", box.public)
    keys.allow(folder, "reader", reader.public)
    return keys.key_path(folder, "box")


def secured_box(name: str, folder: Path, nats: dict[str, Any], sources: Path, reader: keys.KeyPair) -> TestBox:
    """Its daemon is on TCP, where only keys let anybody in."""
    control, publish = (f"tcp://127.0.0.1:{free_port()}" for _ in range(2))
    box_key = daemon_keys(folder / f"{name}-keys", reader)
    daemon_settings = {
        "keys": {"dir": str(box_key.parent)},
        "control": {"endpoint": control, "allow_sources": [f"{sources}/*"]},
        "publish": {"endpoint": publish},
    }
    settings = {"nats": nats, "daemon": {"control": control, "key": str(box_key)}}
    return TestBox(name, folder, "", sources, settings, daemon_settings, launch=forked)


def server_arguments(ca: Authority, server: Certificate) -> list[str]:
    """It asks everybody for a certificate of the authority's."""
    files = ["--tlscert", str(server.certificate), "--tlskey", str(server.key), "--tlscacert"]
    return ["--tls", "--tlsverify", *files, str(ca.ca.certificate)]


@pytest.fixture(scope="module")
def secured(
    tmp_path_factory: pytest.TempPathFactory,
    film: Path,
    preloaded: None,  # noqa: ARG001 - it is to be there
) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    ca = authority(folder)
    server, client = ca.certify("server"), ca.certify("client")
    reader = keys.new_pair()
    keys.write_pair(folder / "reader.key", reader)
    with nats_server(folder, server_arguments(ca, server)) as nats, proxied(nats.port) as network:
        files = {"ca": ca.ca.certificate, "certificate": client.certificate, "certificate_key": client.key}
        told = {name: str(path) for name, path in files.items()}
        settings = {"servers": [nats.url], **told}
        boxes = {name: secured_box(name, folder, settings, film.parent, reader) for name in NAMES}
        options = NatsOptions([nats.url], None, **told)
        with started(TestFleet(nats, boxes, network, options)) as fleet:
            fleet.apply({"cam0": WantedStream(url=str(film), loop=True)})
            fleet.wait_for(lambda live: "cam0" in live)
            yield Secured(fleet, folder / "reader.key")


class TestASecuredFleet:
    @pytest.mark.parametrize("lacks", ["the authority", "a certificate"])
    def test_lets_nobody_to_nats_without_certificates(self, secured: Secured, lacks: str) -> None:
        options = secured.fleet.options
        says = {"the authority": "certificate verify failed", "a certificate": "bad certificate|required"}
        wrong = NatsOptions(options.servers, ca=None if lacks == "the authority" else options.ca)
        with pytest.raises(ConfigError, match=f"NATS is not to be had there: .*({says[lacks]})"):
            Client(fleet=wrong, key=secured.reader_key)

    def test_is_asked_by_people_with_certificates(self, secured: Secured) -> None:
        options = secured.fleet.options
        given = {"ca": options.ca, "cert": options.certificate, "cert-key": options.certificate_key}
        words = [word for name, file in given.items() for word in (f"--{name}", str(file))]
        command = [*TRACKERD, "fleet", "ls", "--nats", options.servers[0], *words]
        assert "cam0" in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

    def test_says_that_it_wants_a_key(self, secured: Secured) -> None:
        with Client(fleet=secured.fleet.options) as client:
            with pytest.raises(ConfigError, match="asks for a key"):
                client.objects("cam0")
            with pytest.raises(ConfigError, match="asks for a key"):
                client.subscribe("cam0")

    def test_lets_nobody_in_whose_key_is_not_allowed(self, secured: Secured, tmp_path: Path) -> None:
        keys.write_pair(tmp_path / "stranger.key", keys.new_pair())
        options = secured.fleet.options
        with Client(fleet=options, key=tmp_path / "stranger.key", timeout_s=1) as client, pytest.raises(Timeout):
            client.objects("cam0")

    def test_goes_on_elsewhere_with_its_objects_when_a_box_is_killed(self, secured: Secured) -> None:
        fleet = secured.fleet
        victim = fleet.live()["cam0"]
        with Client(fleet=fleet.options, key=secured.reader_key) as client:
            added = client.add("cam0", box=RESTING, label="post")
            assert added.durable
            with listening(client, "cam0") as listener:
                fleet.boxes[victim].kill()
                assert listener.until_moved().gap_s > 0
            (entry,) = client.objects("cam0").objects
        assert (entry.object, entry.label) == (added.object, "post")
        assert asyncio.run(_objects(secured)) == [added.object]


async def _objects(secured: Secured) -> list[int]:
    """The same by the client for asyncio."""
    options = secured.fleet.options
    async with AsyncClient(fleet=options, key=secured.reader_key, timeout_s=START_S) as client:
        await anext(client.tracks("cam0", timeout_s=START_S))
        return [entry.object for entry in (await client.objects("cam0")).objects]
