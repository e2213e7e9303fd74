"""SIGHUP: a new configuration, applied to a real daemon that goes on meanwhile."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.service_manager import Service
from helpers.tracking import Message, wait_until
from tracker.config import Config, StreamConfig, parse
from tracker.daemon.reload import keys_for_next_start, with_run_time_changes

pytestmark = pytest.mark.usefixtures("preloaded")
RESTING = [120, 90]


def sections(folder: Path, film: Path, **streams: dict[str, Any]) -> dict[str, Any]:
    described = {name: {"url": str(film), "loop": True, **more} for name, more in streams.items()}
    return {"streams": described, "persist": {"dir": str(folder / "state")}}


@pytest.fixture
def service(tmp_path: Path, film: Path) -> Iterator[Service]:
    """With the streams `one` and `two`, and an object on each."""
    with Service(tmp_path, sections(tmp_path, film, one={}, two={})) as service:
        service.wait_for("READY=1")
        wait_until(lambda: all(stream(service, name)["frame"] is not None for name in ("one", "two")))
        for name in ("one", "two"):
            service.ask("objects.add", stream=name, points=[RESTING])
        yield service


def stream(service: Service, name: str) -> Message:
    return next(s for s in service.ask("streams.list")["streams"] if s["stream"] == name)


def names(service: Service) -> set[str]:
    return {s["stream"] for s in service.ask("streams.list")["streams"]}


def objects(service: Service, name: str, **args: Any) -> list[Message]:
    return [o for o in service.ask("objects.list", **args)["objects"] if o["stream"] == name]


def events(service: Service, name: str) -> list[str]:
    return [e["event"] for e in service.ask("history.list", stream=name)["events"]]


def reload(service: Service, config: dict[str, Any]) -> None:
    service.configure(config)
    hang_up(service)


def hang_up(service: Service) -> None:
    service.drain()
    service.process.send_signal(signal.SIGHUP)
    said = service.wait_for(lambda said: said.startswith("RELOADING=1\nMONOTONIC_USEC="))
    assert said
    service.wait_for("READY=1")


def test_streams_are_added_and_removed_and_the_others_are_not_touched(
    service: Service, tmp_path: Path, film: Path
) -> None:
    before = stream(service, "one")
    assert len(objects(service, "one")) == 1
    reload(service, sections(tmp_path, film, one={}, three={}))
    assert names(service) == {"one", "three"}
    after = stream(service, "one")
    assert after["epoch"] == before["epoch"]  # it was not opened again
    assert events(service, "one").count("stream_live") == 1
    wait_until(lambda: stream(service, "one")["step"] > after["step"])
    wait_until(lambda: stream(service, "three")["state"] == "live")
    # The removed one's objects wait, and go on where it comes back.
    wait_until(lambda: service.ask("objects.list", all=True)["waiting"])
    assert [w["stream"] for w in service.ask("objects.list", all=True)["waiting"]] == ["two"]
    reload(service, sections(tmp_path, film, one={}, two={}))
    assert names(service) == {"one", "two"}
    wait_until(lambda: objects(service, "two") and objects(service, "two")[0]["state"] == "visible")


def test_a_changed_stream_is_opened_again_with_its_objects(service: Service, tmp_path: Path, film: Path) -> None:
    before, newest = stream(service, "two"), objects(service, "two")[0]
    reload(service, sections(tmp_path, film, one={}, two={"fps": 10, "buffer": {"seconds": 5}}))
    wait_until(lambda: stream(service, "two")["epoch"] > before["epoch"])
    wait_until(lambda: objects(service, "two")[0]["frame"] > max(newest["frame"], before["decoded"]))
    assert objects(service, "two")[0]["object"] == newest["object"]
    assert "stream_changed" in events(service, "two")
    assert "stream_changed" not in events(service, "one")
    assert stream(service, "one")["epoch"] == 0


def test_what_needs_no_new_source_gets_none(service: Service, tmp_path: Path, film: Path) -> None:
    reload(service, sections(tmp_path, film, one={}, two={"priority": 7, "min_fps": 1, "labels": []}))
    assert "stream_changed" in events(service, "two")
    step = stream(service, "two")["step"]
    wait_until(lambda: stream(service, "two")["step"] > step)
    assert stream(service, "two")["epoch"] == 0
    assert events(service, "two").count("stream_live") == 1


def test_a_paused_stream_stays_paused(service: Service, tmp_path: Path, film: Path) -> None:
    service.ask("streams.pause", stream="two")
    reload(service, sections(tmp_path, film, one={}, two={"fps": 10}))
    assert stream(service, "two")["state"] == "paused"
    service.ask("streams.resume", stream="two")
    wait_until(lambda: stream(service, "two")["state"] == "live")


def test_a_wrong_configuration_changes_nothing_and_is_told(service: Service, tmp_path: Path, film: Path) -> None:
    wrong = sections(tmp_path, film, three={}) | {"engine": {"threads": 0}}
    reload(service, wrong)
    assert names(service) == {"one", "two"}
    assert "the configuration stays as it was: config.yaml: engine.threads" in service.log()
    service.wait_for(lambda said: "the configuration was not applied: config.yaml: engine.threads" in said)
    (tmp_path / "config.yaml").unlink()
    hang_up(service)
    assert names(service) == {"one", "two"}
    reload(service, sections(tmp_path, film, one={}, two={}, three={}))
    assert names(service) == {"one", "two", "three"}


def test_what_clients_may_open_changes_with_it(service: Service, tmp_path: Path, film: Path) -> None:
    config = sections(tmp_path, film, one={}) | {"control": {"allow_sources": [f"{film.parent}/*"]}}
    reload(service, config)
    service.ask("streams.add", stream="guest", url=str(film), loop=True)
    reload(service, sections(tmp_path, film, one={}))
    assert names(service) == {"one", "guest"}  # what is open stays, what comes is judged anew


def test_what_cannot_change_is_said(service: Service, tmp_path: Path, film: Path) -> None:
    config = sections(tmp_path, film, one={}, two={}) | {"engine": {"max_objects": 3}, "log": {"level": "debug"}}
    reload(service, config)
    log = service.log()
    assert "engine.max_objects has changed in the configuration; that takes effect at the next start" in log
    assert "log.level has changed" not in log
    assert service.ask("server.info")["limits"]["objects"] == 64


def test_signals_before_it_serves_do_not_end_it(tmp_path: Path, film: Path) -> None:
    with Service(tmp_path, sections(tmp_path, film, one={})) as service:
        service.wait_for("STATUS=loading nano")
        service.process.send_signal(signal.SIGHUP)
        service.wait_for("READY=1")


class TestWhatMayChange:
    BEFORE = parse("{streams: {a: {url: x.mp4}}, control: {allow_sources: [a]}}")

    @pytest.mark.parametrize(
        ("text", "keys"),
        [
            ("{}", []),
            ("{control: {allow_sources: [b], allow_credentials: true}, log: {level: debug}}", []),
            ("{control: {endpoint: 'ipc:///run/x'}}", ["control.endpoint"]),
            ("{model: {name: x}, limits: {connections: 3}}", ["model.name", "limits.connections"]),
        ],
    )
    def test_keys_that_wait_for_the_next_start(self, text: str, keys: list[str]) -> None:
        assert list(keys_for_next_start(self.BEFORE, parse(text))) == keys

    def test_what_is_kept_and_what_is_taken(self) -> None:
        after = parse("{streams: {b: {url: y.mp4}}, control: {endpoint: 'ipc:///run/x', allow_sources: [b]}}")
        now = with_run_time_changes(self.BEFORE, after)
        assert now.streams == {"b": StreamConfig(url="y.mp4")}
        assert now.control.allow_sources == ["b"]
        assert now.control.endpoint == Config().control.endpoint
