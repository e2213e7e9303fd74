"""What a daemon was told outlives it: stopped, killed, with another model, a failing disk, a damaged state."""

import json
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from helpers.fakes import BlobEngine
from helpers.service_manager import Service
from helpers.tracking import Message, Talk, blobs, configuration, serving, wait_until
from tracker.config import Config
from tracker.daemon import persistence
from tracker.daemon.operations import moves
from tracker.daemon.state_folder import open_store
from tracker.errors import ConfigError
from tracker.protocol.fields import MAX_TRANSFERS
from tracker.registry.rows import SavedObject

RESTING, MOVING = [120, 90], [20, 30]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4")


@pytest.fixture
def config(film: Path, tmp_path: Path) -> Config:
    return configured(film, tmp_path / "state")


def configured(film: Path, state: Path, streams: bool = True, **sections: Any) -> Config:
    sections["control"] = {"allow_sources": [f"{film.parent}/*"]} | sections.get("control", {})
    if streams:
        sections["streams"] = {"cam": {"url": str(film), "loop": True}}
    return configuration(persist={"dir": str(state), "interval_s": 0.05}, **sections)


def add(talk: Talk, at: list[int] = RESTING, stream: str = "cam", **more: Any) -> Message:
    wait_until(lambda: any(s["stream"] == stream and s["frame"] is not None for s in streams(talk)))
    return talk.ask("objects.add", stream=stream, points=[at], **more)


def streams(talk: Talk) -> list[Message]:
    found: list[Message] = talk.ask("streams.list")["streams"]
    return found


def objects(talk: Talk, **args: Any) -> list[Message]:
    found: list[Message] = talk.ask("objects.list", **args)["objects"]
    return found


def saved(config: Config) -> dict[int, SavedObject]:
    """What lies in the folder of a daemon that has ended."""
    store = open_store(config.persist)
    assert store is not None
    store.start()
    store.stop(30)
    return {kept.saved.id: kept.saved for kept in store.saved.objects}


def history(talk: Talk, **args: Any) -> list[str]:
    return [event["event"] for event in talk.ask("history.list", **args)["events"]]


class TestAcrossARestart:
    def test_objects_go_on_under_their_ids(self, config: Config) -> None:
        with serving(config) as talk:
            first = add(talk, label="post", meta={"a": 1}, expire_s=600)
            assert first["durable"] is True
            assert add(talk, object=9)["durable"] is True
            wait_until(lambda: all(o["age"] > 3 for o in objects(talk)))
            before = {o["object"]: o for o in objects(talk)}
        with serving(config) as talk:
            after = {o["object"]: o for o in objects(talk)}
            assert after.keys() == before.keys() == {1, 9}
            assert after[1]["label"] == "post"
            assert after[1]["meta"] == {"a": 1}
            wait_until(lambda: all(o["age"] > before[o["object"]]["age"] + 3 for o in objects(talk)))
            assert [o["box"] for o in objects(talk)] == [before[1]["box"], before[9]["box"]]
            assert [o["state"] for o in objects(talk)] == ["visible"] * 2

    def test_ids_and_frames_never_repeat(self, config: Config) -> None:
        with serving(config) as talk:
            add(talk)
            removed = add(talk)["object"]
            reply = talk.ask("objects.remove", stream="cam", object=removed)
            assert reply == {"removed": [removed], "durable": True}
            newest, instance = streams(talk)[0]["frame"], talk.reply("server.info")["instance"]
        with serving(config) as talk:
            assert [o["object"] for o in objects(talk)] == [1]
            added = add(talk)
            assert added["object"] == 3
            assert added["frame"] > newest
            assert added["epoch"] > 0
            assert (
                talk.refused("objects.add", stream="cam", points=[RESTING], object=removed)[0] == "already_exists"
            )
            assert talk.reply("server.info")["instance"] != instance

    def test_a_file_of_which_every_frame_is_taken_goes_on(self, film: Path, tmp_path: Path) -> None:
        streams = {"cam": {"url": str(film), "loop": True, "pace": "all"}}
        config = configuration(persist={"dir": str(tmp_path / "state")}, streams=streams)
        for _ in range(2):
            with serving(config) as talk:
                add(talk)
                wait_until(lambda: all(o["age"] > 3 for o in objects(talk)))

    def test_no_more_conditioning_frames_go_on_than_are_kept_now(self, config: Config) -> None:
        def conditioning(talk: Talk) -> int:
            memory = talk.daemon._table.stream("cam").object(1).memory.committed()
            return sum(entry.conditioning for entry in (*memory.past, *memory.ahead))

        def corrected(talk: Talk) -> int:
            talk.ask("objects.refine", stream="cam", object=1, points=[RESTING])
            return conditioning(talk)

        with serving(config, BlobEngine(conditioning_frames=16)) as talk:
            add(talk)
            wait_until(lambda: corrected(talk) >= 8)
        with serving(config) as talk:
            assert conditioning(talk) == config.engine.conditioning_frames == 4

    def test_changes_are_kept(self, config: Config) -> None:
        with serving(config) as talk:
            add(talk)
            updated = talk.ask("objects.update", stream="cam", object=1, label="pallet", meta={"b": 2})
            assert updated["durable"] is True
            frame = objects(talk)[0]["frame"]
            wait_until(lambda: objects(talk)[0]["frame"] > frame)
            refined = talk.ask("objects.refine", stream="cam", object=1, points=[RESTING])
            assert refined["durable"] is True
            box = {"box": [110, 80, 130, 100]}
            many = talk.ask("objects.add_many", stream="cam", detections=[box])
            assert many["durable"] is True
        with serving(config) as talk:
            (found,) = objects(talk)
            assert (found["label"], found["meta"]) == ("pallet", {"b": 2})

    def test_a_stream_that_was_added_is_opened_again(self, film: Path, tmp_path: Path) -> None:
        config = configured(film, tmp_path / "state", streams=False)
        with serving(config) as talk:
            talk.ask("streams.add", stream="later", url=str(film), loop=True)
            add(talk, stream="later")
            talk.ask("streams.add", stream="gone", url=str(film), loop=True)
            talk.ask("streams.remove", stream="gone")
            talk.ask("streams.add", stream="still", url=str(film), loop=True)
            talk.ask("streams.pause", stream="still")
        with serving(config) as talk:
            assert {s["stream"]: s["state"] == "paused" for s in streams(talk)} == {"later": False, "still": True}
            wait_until(lambda: objects(talk)[0]["age"] > 3)

    def test_a_stream_that_is_no_longer_allowed_stays_closed(self, film: Path, tmp_path: Path) -> None:
        with serving(configured(film, tmp_path / "state", streams=False)) as talk:
            talk.ask("streams.add", stream="later", url=str(film), loop=True)
            add(talk, stream="later")
        closed = configured(film, tmp_path / "state", streams=False, control={"allow_sources": []})
        with serving(closed) as talk:
            assert streams(talk) == []
            listed = talk.ask("objects.list", all=True)
            assert [(o["stream"], o["object"]) for o in listed["waiting"]] == [("later", 1)]

    def test_no_more_streams_are_opened_again_than_are_allowed(self, film: Path, tmp_path: Path) -> None:
        with serving(configured(film, tmp_path / "state", streams=False)) as talk:
            for name in ("one", "two", "three"):
                talk.ask("streams.add", stream=name, url=str(film), loop=True)
        with serving(configured(film, tmp_path / "state", streams=False, limits={"streams": 2})) as talk:
            assert len(streams(talk)) == 2

    def test_credentials_in_an_url_are_not_written_down(self, film: Path, tmp_path: Path) -> None:
        allowed = {"allow_sources": ["rtsp://127.0.0.1:1/**"]}
        config = configured(film, tmp_path / "state", streams=False, control=allowed)
        with serving(config) as talk:
            talk.ask("streams.add", stream="door", url="rtsp://user:s3cret@127.0.0.1:1/live")
        assert not any(b"s3cret" in path.read_bytes() for path in (tmp_path / "state").glob("state.db*"))
        with serving(config) as talk:
            assert streams(talk) == []

    def test_objects_wait_for_their_stream(self, film: Path, tmp_path: Path) -> None:
        with serving(configured(film, tmp_path / "state")) as talk:
            add(talk, label="post")
            add(talk)
        without = configured(film, tmp_path / "state", streams=False)
        with serving(without) as talk:
            assert objects(talk) == []
            assert [o["label"] for o in talk.ask("objects.list", all=True)["waiting"]] == ["post", None]
            assert talk.ask("objects.remove", stream="cam", object=2) == {"removed": [2], "durable": True}
            talk.ask("streams.add", stream="cam", url=str(film), loop=True)
            assert [o["object"] for o in objects(talk)] == [1]
            wait_until(lambda: objects(talk)[0]["age"] > 3)

    def test_a_removed_streams_objects_are_forgotten_and_its_numbers_are_not(
        self, film: Path, tmp_path: Path
    ) -> None:
        config = configured(film, tmp_path / "state")
        with serving(config) as talk:
            newest = add(talk)["frame"]
            talk.ask("streams.remove", stream="cam")
        with serving(config) as talk:
            assert talk.ask("objects.list", all=True) == {"objects": [], "waiting": []}
            added = add(talk)
            assert (added["object"], added["frame"] > newest) == (2, True)

    def test_how_long_an_object_was_lost_counts_on(self, tmp_path: Path) -> None:
        film = blobs(tmp_path / "hiding.mp4", frames=400, hidden=range(20, 400))
        config = configured(film, tmp_path / "state")
        with serving(config) as talk:
            add(talk)
            talk.ask("objects.add", stream="cam", points=[MOVING], frame=streams(talk)[0]["buffer"]["oldest"])
            wait_until(lambda: "object_lost" in history(talk, stream="cam", object=2))
            wait_until(lambda: objects(talk)[1]["state"] == "lost")
        first = saved(config)
        assert first[1].lost_for_s is None
        assert first[2].lost_for_s is not None
        film.rename(tmp_path / "away.mp4")  # no frame comes: it stays lost
        with serving(config) as talk:
            assert {o["object"]: o["state"] for o in objects(talk)} == {1: "visible", 2: "lost"}
        second = saved(config)
        assert second[2].lost_for_s is not None
        assert second[2].lost_for_s > first[2].lost_for_s


class TestAnotherModel:
    class Other(BlobEngine):
        def describe(self) -> dict[str, Any]:
            return super().describe() | {"name": "other"}

        def prompt(self, track: Any, features: Any, i: int, frame: int, prompt: Any, size_wh: Any) -> Any:
            if prompt.mask_hw is not None:
                from dataclasses import replace

                import numpy as np

                ys, xs = np.nonzero(prompt.mask_hw)
                centre = np.array([[xs.mean(), ys.mean()]], np.float32)
                prompt = replace(prompt, mask_hw=None, points_xy=centre, labels_n=np.ones(1, np.int32))
            return super().prompt(track, features, i, frame, prompt, size_wh)

    def test_objects_are_prompted_again_with_their_last_mask(self, config: Config) -> None:
        with serving(config) as talk:
            box = add(talk)["box"]
        with serving(config, self.Other()) as talk:
            wait_until(lambda: objects(talk) and objects(talk)[0]["age"] > 3)
            assert objects(talk)[0]["object"] == 1
            assert objects(talk)[0]["box"] == box
            events = talk.ask("history.list", stream="cam", object=1)["events"]
            (restored,) = [e for e in events if e["event"] == "object_restored"]
            assert "another model" in restored["message"]
        with serving(config, self.Other()) as talk:
            assert [o["object"] for o in objects(talk)] == [1]

    def test_a_damaged_memory_waits_and_is_told(self, config: Config, tmp_path: Path) -> None:
        with serving(config) as talk:
            add(talk)
            add(talk)
        (first,) = (tmp_path / "state" / "memories").glob("cam.1.*")
        first.write_bytes(first.read_bytes()[:-1])
        with serving(config) as talk:
            assert [o["object"] for o in objects(talk)] == [2]
            assert [o["object"] for o in talk.ask("objects.list", all=True)["waiting"]] == [1]
            assert "object_waiting" in history(talk, stream="cam", object=1)


class TestWhereNothingIsKept:
    def test_nothing_is_durable_and_there_is_no_history(
        self, film: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("STATE_DIRECTORY", raising=False)
        with serving(configuration(streams={"cam": {"url": str(film), "loop": True}})) as talk:
            assert add(talk)["durable"] is False
            code, message = talk.refused("history.list")
            assert (code, "persist.dir" in message) == ("unavailable", True)
        assert [r.message for r in caplog.records if "outlives a restart" in r.message]

    def test_systemd_names_the_folder(self, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", f"{tmp_path}/state:{tmp_path}/other")
        with serving(configuration(streams={"cam": {"url": str(film), "loop": True}})) as talk:
            assert add(talk)["durable"] is True
        assert (tmp_path / "state" / "state.db").exists()


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


class TestHistory:
    def test_events_are_listed_oldest_first(self, config: Config) -> None:
        with serving(config) as talk:
            add(talk)
            add(talk)
            talk.ask("objects.remove", stream="cam", object=1)
            assert history(talk, stream="cam", object=1) == ["object_added", "object_removed"]
            everything = talk.ask("history.list")["events"]
            assert [e["event"] for e in everything][:2] == ["stream_added", "stream_live"]
            assert history(talk, since=everything[-1]["time"]) == ["object_removed"]
            assert len(history(talk, limit=1)) == 1
            assert talk.refused("history.list", stream="nobody")[0] == "unknown_stream"
            assert talk.refused("history.list", object=1)[0] == "bad_request"
        with serving(config) as talk:
            assert "daemon_stopping" in history(talk, stream="cam")
            talk.ask("streams.remove", stream="cam")
            assert "stream_removed" in history(talk, stream="cam")
            assert history(talk, stream="cam", object=9) == []


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


def test_of_removed_streams_the_oldest_are_forgotten(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(film, tmp_path / "state", streams=False)

    def use(talk: Talk, names: str) -> None:
        for name in names:
            talk.ask("streams.add", stream=name, url=str(film), loop=True)
            talk.ask("streams.remove", stream=name)

    def kept() -> set[str]:
        with closing(apsw.Connection(str(tmp_path / "state" / "state.db"))) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM streams")}

    with serving(config) as talk:
        talk.ask("streams.add", stream="there", url=str(film), loop=True)
        use(talk, "hgfedcba")
        assert talk.daemon._persistence._stream_rows._reserved.keys() == {"there"}
    assert kept() == {*"abcdefgh", "there"}
    monkeypatch.setattr(persistence, "MAX_GONE", 4)
    with serving(config) as talk:  # which finds more than it may keep, those that are there among them
        wait_until(lambda: kept() == {*"abc", "there"})
        use(talk, "zy")
        assert kept() == {*"abyz", "there"}  # in the order in which they were removed, over restarts
        use(talk, "z")
        assert kept() == {*"abyz", "there"}
        use(talk, "x")
        assert kept() == {*"axyz", "there"}
    assert kept() == {*"axyz", "there"}


def test_state_of_before_streams_had_a_first_object_is_read(config: Config, tmp_path: Path) -> None:
    with serving(config) as talk:
        add(talk)
    with closing(apsw.Connection(str(tmp_path / "state" / "state.db"))) as connection:
        ((record,),) = list(connection.execute("SELECT record FROM streams"))
        row = msgspec.msgpack.decode(record)
        assert row.pop("first_object") == 1
        connection.execute("UPDATE streams SET record = ?", (msgspec.msgpack.encode(row),))
    with serving(config) as talk:
        assert [o["object"] for o in objects(talk)] == [1]
        assert add(talk)["object"] == 2


class TestStreamsFromElsewhere:
    def test_frames_and_epochs_count_on(self, film: Path) -> None:
        config = configuration(control={"allow_sources": [f"{film.parent}/*"]})
        with serving(config) as talk:
            talk.ask("streams.add", stream="cam", url=str(film), loop=True, first_frame=5000, epoch=7)
            added = add(talk)
            assert added["frame"] >= 5000
            assert added["epoch"] >= 8
            talk.ask("streams.remove", stream="cam")
            code, message = talk.refused("streams.add", stream="cam", url=str(film), first_frame=100)
            assert (code, message.split(":")[0]) == ("bad_request", "first_frame")
            code, message = talk.refused("streams.add", stream="cam", url=str(film), epoch=1)
            assert (code, message.split(":")[0]) == ("bad_request", "epoch")
            assert streams(talk) == []

    def test_the_owner_stands_in_every_message_and_ids_go_on(self, film: Path) -> None:
        config = configuration(control={"allow_sources": [f"{film.parent}/*"]})
        with serving(config) as talk:
            talk.subscribe("events/cam/")
            args = {"stream": "cam", "url": str(film), "loop": True, "owner": "12.3", "first_object": 8}
            assert talk.ask("streams.add", **args)["owner"] == "12.3"
            assert talk.receive_until(lambda m: m["event"] == "stream_live")["owner"] == "12.3"
            talk.subscribe("tracks/cam/")
            assert talk.receive_until(lambda m: "objects" in m)["owner"] == "12.3"
            talk.subscribe("frames/cam/320/")
            assert talk.receive_until(lambda m: "format" in m)["owner"] == "12.3"
            assert streams(talk)[0]["owner"] == "12.3"
            assert add(talk)["object"] == 8
            assert add(talk, object=3)["object"] == 3  # who chooses may

    @pytest.mark.parametrize(
        ("allowed", "fields", "says"),
        [
            (False, {"password_env": "PW"}, "allow_credentials"),
            (True, {"password_env": "PW"}, None),
            (True, {"password_file": "door"}, None),
            (True, {"password_file": "/etc/passwd"}, "systemd credential"),
        ],
    )
    def test_credentials_may_be_named_where_that_is_allowed(
        self, allowed: bool, fields: dict[str, str], says: str | None
    ) -> None:
        control = {"allow_sources": ["rtsp://127.0.0.1:1/**"], "allow_credentials": allowed}
        with serving(configuration(control=control)) as talk:
            asked = {"stream": "door", "url": "rtsp://127.0.0.1:1/live", **fields}
            if says is None:
                assert talk.ask("streams.add", **asked)["stream"] == "door"
            else:
                code, message = talk.refused("streams.add", **asked)
                assert (code, says in message) == ("forbidden", True)


UNSAVABLE = [
    (r'"prompts":\d+', f'"prompts":{2**31}'),
    (r'"step":(-?\d+)', lambda step: f'"step":{2**53 - 100 + int(step[1])}'),
    (r'"name":"[^"]+"', r'"name":"\\u001b[31mred"'),  # another model's, whose name would move a terminal
]


def changed(data: bytes, pattern: str, by: Any) -> dict[str, Any]:
    """A memory whose header has something else in place of what matches `pattern`."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    said = header["__metadata__"]["tracker"]
    swapped, count = re.subn(pattern, by, said)
    assert count > 0
    header["__metadata__"]["tracker"] = swapped
    text = json.dumps(header).encode()
    whole = len(text).to_bytes(8, "little") + text + data[8 + size :]
    return {"data": whole, "size": len(whole)}


def exported_whole(talk: Talk) -> None:
    """Object 5 of stream cam, chunk by chunk."""
    chunk = talk.ask("objects.export", stream="cam", object=5)
    came = len(chunk["data"])
    while came < chunk["size"]:
        args = {"token": chunk["token"], "offset": came}
        came += len(talk.ask("objects.export", stream="cam", object=5, **args)["data"])


class TestMoving:
    """An object goes from one daemon to another, and nothing else is taken for one."""

    def exported(self, film: Path) -> tuple[Message, bytes]:
        with serving(configuration(streams={"cam": {"url": str(film), "loop": True}})) as talk:
            add(talk, object=5, label="post", meta={"a": 1})
            wait_until(lambda: objects(talk)[0]["age"] > 3)
            chunk = talk.ask("objects.export", stream="cam", object=5)
            assert len(chunk["data"]) == chunk["size"]
        return chunk["record"], chunk["data"]

    def test_it_goes_on_elsewhere(self, film: Path, tmp_path: Path) -> None:
        record, data = self.exported(film)
        config = configured(film, tmp_path / "state", streams=False)
        with serving(config) as talk:
            talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=record["frame"] + 1)
            half = len(data) // 2
            args: dict[str, Any] = {"stream": "new", "record": record, "size": len(data)}
            first = talk.ask("objects.import", **args, data=data[:half])
            assert (first["received"], first["object"], "durable" in first) == (half, None, False)
            last = talk.ask("objects.import", **args, data=data[half:], offset=half)
            assert last == {"stream": "new", "received": len(data), "object": 5, "durable": True}
            wait_until(lambda: objects(talk)[0]["age"] > record["age"] + 3)
            assert objects(talk)[0]["label"] == "post"
            assert talk.refused("objects.import", **args, data=data)[0] == "already_exists"
        with serving(config) as talk:
            assert [o["object"] for o in objects(talk)] == [5]

    def test_it_may_come_back(self, film: Path) -> None:
        config = configuration(control={"allow_sources": [f"{film.parent}/*"]})
        with serving(config) as talk:
            talk.ask("streams.add", stream="cam", url=str(film), loop=True)
            add(talk, object=5)
            chunk = talk.ask("objects.export", stream="cam", object=5)
            talk.ask("streams.remove", stream="cam")
            talk.ask("streams.add", stream="cam", url=str(film), loop=True, first_frame=10**6)
            args: dict[str, Any] = {"stream": "cam", "record": chunk["record"], "size": chunk["size"]}
            assert talk.ask("objects.import", **args, data=chunk["data"])["object"] == 5
            assert talk.refused("objects.import", **args, data=chunk["data"])[0] == "already_exists"

    def test_an_export_is_kept_until_its_last_chunk_was_read(
        self, film: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(moves, "MAX_CHUNK_BYTES", 1000)
        control = {"allow_sources": [f"{film.parent}/*"]}
        with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, control=control)) as talk:
            add(talk, object=5)
            chunk = talk.ask("objects.export", stream="cam", object=5)
            token, data = chunk["token"], chunk["data"]
            wrong: list[tuple[Message, str]] = [
                ({"offset": 1000}, "bad_request"),
                ({"token": token, "offset": 10**9}, "bad_request"),
                ({"token": "x"}, "transfer_gone"),
                ({"token": token, "object": 6}, "transfer_gone"),
            ]
            for fields, code in wrong:
                asked = {"stream": "cam", "object": 5} | fields
                assert talk.refused("objects.export", **asked)[0] == code, fields
            for _ in range(2 * MAX_TRANSFERS):  # others, each begun and read to its end meanwhile
                exported_whole(talk)
            again = {"stream": "cam", "object": 5, "token": token}
            while len(data) < chunk["size"]:
                last = len(data)
                data += talk.ask("objects.export", **again, offset=last)["data"]
            assert last > 1000
            assert talk.refused("objects.export", **again, offset=last)[0] == "transfer_gone"
            new: Message = {"stream": "new", "record": chunk["record"], "size": len(data)}
            talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=10**6)
            for offset in range(0, len(data), 1000):
                done = talk.ask("objects.import", **new, data=data[offset : offset + 1000], offset=offset)
            assert done["object"] == 5

    def test_an_import_that_was_forgotten_is_told_from_one_that_is_wrong(self, film: Path) -> None:
        record, data = self.exported(film)
        with serving(configuration(control={"allow_sources": [f"{film.parent}/*"]})) as talk:
            talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=record["frame"] + 1)
            half = len(data) // 2
            many: list[Message] = [
                {"stream": "new", "record": {**record, "object": i + 1}, "size": len(data)}
                for i in range(MAX_TRANSFERS + 1)
            ]
            for one in many:
                talk.ask("objects.import", **one, data=data[:half])
            rest = {"data": data[half:], "offset": half}
            assert talk.refused("objects.import", **many[0], **rest)[0] == "transfer_gone"
            for one in many[1:]:
                assert talk.ask("objects.import", **one, **rest)["object"] == one["record"]["object"]
            talk.ask("objects.import", **many[0], data=data[:half])
            assert talk.ask("objects.import", **many[0], **rest)["object"] == 1

    def test_two_senders_do_not_disturb_each_other(self, film: Path) -> None:
        record, data = self.exported(film)
        with serving(configuration(control={"allow_sources": [f"{film.parent}/*"]})) as talk:
            talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=record["frame"] + 1)
            half = len(data) // 2
            one: dict[str, Any] = {"stream": "new", "record": record, "size": len(data)}
            other = one | {"record": {**record, "label": "other"}}
            for args in (one, other):
                talk.ask("objects.import", **args, data=data[:half])
            assert talk.refused("objects.import", **one, data=data[half:], offset=half + 1)[0] == "transfer_gone"
            assert talk.ask("objects.import", **one, data=data[half:], offset=half)["object"] == 5
            code, _ = talk.refused("objects.import", **other, data=data[half:], offset=half)
            assert code == "already_exists"

    def test_what_is_wrong_is_refused_and_changes_nothing(self, film: Path) -> None:
        record, data = self.exported(film)
        with serving(configuration(control={"allow_sources": [f"{film.parent}/*"]})) as talk:
            talk.ask("streams.add", stream="new", url=str(film), loop=True, first_frame=record["frame"] + 1)
            good: dict[str, Any] = {"stream": "new", "record": record, "size": len(data), "data": data}
            later = data.replace(b'"frame\\":', b'"frame\\":9999')
            wrong: list[dict[str, Any]] = [
                {"data": data[:-1] + b"x" * 2, "size": len(data) + 1},
                {"data": data[:-1], "size": len(data) - 1},
                {"data": b"\0" * len(data)},
                {"data": later, "size": len(later)},
                {"size": 10},
                {"size": 2**31},
                {"record": {**record, "lost_for_s": -1.0}},
                {"record": {**record, "meta": {"a": "x" * 5000}}},
                {"record": {**record, "size_wh": [0, 1]}},
                {"record": {**record, "unknown": 1}},
                {"record": {**record, "age": 2**53}},
                *(changed(data, *swap) for swap in UNSAVABLE),
            ]
            for fields in wrong:
                code, message = talk.refused("objects.import", **(good | fields))
                assert "\x1b" not in message
                assert code in ("bad_request", "too_large"), (fields.keys(), message)
            assert objects(talk) == []
