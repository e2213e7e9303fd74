"""What a daemon was told outlives it: stopped and started again, also with another model."""

from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from helpers.fakes import BlobEngine
from helpers.persisting import MOVING, RESTING, add, configured, objects, streams
from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from tracker.config import Config
from tracker.daemon import persistence
from tracker.daemon.state_folder import open_store
from tracker.registry.rows import SavedObject


@pytest.fixture
def config(film: Path, tmp_path: Path) -> Config:
    return configured(film, tmp_path / "state")


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
