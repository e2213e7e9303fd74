"""A disk that fails and a process that is killed: what was acknowledged as kept is there."""

import shutil
from pathlib import Path

import pytest

from helpers.persisting import RESTING, add, configured, objects
from helpers.service_manager import Service
from helpers.tracking import serving, wait_until
from tracker.config import Config
from tracker.daemon.state_folder import open_store
from tracker.errors import ConfigError


@pytest.fixture
def config(film: Path, tmp_path: Path) -> Config:
    return configured(film, tmp_path / "state")


class TestDisksThatFail:
    def test_tracking_goes_on_and_saving_resumes(self, config: Config, tmp_path: Path) -> None:
        state = tmp_path / "state"
        with serving(config) as talk:
            talk.subscribe("events/cam/")
            add(talk, object=1)
            shutil.rmtree(state)
            state.write_text("in its place")
            assert add(talk, object=2)["durable"] is False
            assert talk.receive_until(lambda m: m["event"] == "persist_failed")["message"]
            age = objects(talk)[0]["age"]
            wait_until(lambda: objects(talk)[0]["age"] > age + 3)
            assert talk.ask("objects.remove", stream="cam", object=1)["durable"] is False
            state.unlink()
            talk.receive_until(lambda m: m["event"] == "persist_recovered")
            assert add(talk, object=3)["durable"] is True
        with serving(config) as talk:
            assert [o["object"] for o in objects(talk)] == [2, 3]

    def test_a_damaged_state_is_set_aside(self, config: Config, tmp_path: Path) -> None:
        with serving(config) as talk:
            add(talk)
        (tmp_path / "state" / "state.db").write_text("not a database " * 500)
        with serving(config) as talk:
            assert objects(talk) == []
            assert add(talk)["durable"] is True
        assert list((tmp_path / "state").glob("set-aside-*"))

    def test_a_second_daemon_is_refused(self, config: Config) -> None:
        with serving(config), pytest.raises(ConfigError, match="in use by another daemon"):
            open_store(config.persist)


@pytest.mark.usefixtures("preloaded")
def test_kill_9_at_any_time_loses_nothing_acknowledged(tmp_path: Path, film: Path) -> None:
    config = {
        "persist": {"dir": str(tmp_path / "state"), "interval_s": 0.05},
        "streams": {"cam": {"url": str(film), "loop": True}},
    }
    there: set[int] = set()
    newest = -1
    for _ in range(3):
        with Service(tmp_path, config) as service:  # which ends by SIGKILL
            service.wait_for("READY=1")
            wait_until(lambda: service.ask("streams.list")["streams"][0]["frame"] is not None, 60)
            assert {o["object"] for o in service.ask("objects.list")["objects"]} == there
            assert service.ask("streams.list")["streams"][0]["frame"] > newest
            for k in range(4):
                added = service.ask("objects.add", stream="cam", points=[RESTING])
                assert added["durable"]
                there.add(added["object"])
                if k % 2:
                    gone = min(there)
                    assert service.ask("objects.remove", stream="cam", object=gone)["durable"]
                    there.remove(gone)
            newest = service.ask("streams.list")["streams"][0]["frame"]


@pytest.mark.usefixtures("preloaded")
def test_kill_9_loses_no_pause_no_resume_and_no_first_object(tmp_path: Path, film: Path) -> None:
    config = {
        "persist": {"dir": str(tmp_path / "state")},
        "control": {"allow_sources": [str(film)]},
        "streams": {"cam": {"url": str(film), "loop": True}},
    }

    def is_paused(service: Service) -> bool:
        service.wait_for("READY=1")
        paused: bool = service.ask("streams.list")["streams"][0]["state"] == "paused"
        return paused

    with Service(tmp_path, config) as service:  # which ends by SIGKILL
        assert not is_paused(service)
        service.ask("streams.add", stream="moved", url=str(film), loop=True, first_object=500)
        service.ask("streams.pause", stream="cam")
    with Service(tmp_path, config) as service:
        assert is_paused(service)
        wait_until(lambda: service.ask("streams.list")["streams"][1]["frame"] is not None, 60)
        assert service.ask("objects.add", stream="moved", points=[RESTING])["object"] == 500
    with Service(tmp_path, config) as service:
        assert is_paused(service)  # its row said so from the start on
        service.ask("zones.set", stream="cam", zone="door", line=[[0, 0], [9, 9]])
        service.ask("streams.resume", stream="cam")
    with Service(tmp_path, config) as service:
        assert not is_paused(service)
