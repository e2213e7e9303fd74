"""Streams and objects that come from another daemon, and go to one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.persisting import add, configured, objects, streams
from helpers.tracking import Message, Talk, configuration, serving, wait_until
from tracker.daemon.operations import moves
from tracker.protocol.fields import MAX_TRANSFERS


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
