"""Zones in a running daemon: set, seen in tracks, events and figures, drawn, kept over a restart."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.tracking import Message, Talk, blobs, configuration, serving
from tracker.config import Config
from tracker.images.imaging import decode

MOVING = [20, 30]  # on frame 0, goes right by a pixel a frame
GATE = {"line": [[50, 120], [50, 0]]}
ROOM = {"polygon": [[0.5, 0], [1, 0], [1, 0.6], [0.5, 0.6]], "unit": "fraction"}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("film") / "blobs.mp4", frames=160)


def configured(film: Path, tmp_path: Path, zones: dict[str, Any] | None = None, **stream: Any) -> Config:
    streams = {"cam": {"url": str(film), "zones": zones or {}, **stream}}
    return configuration(streams=streams, persist={"dir": str(tmp_path / "state"), "interval_s": 0.1})


@pytest.fixture
def talk(film: Path, tmp_path: Path) -> Iterator[Talk]:
    with serving(configured(film, tmp_path, loop=True)) as talk:
        talk.wait_for_frame(0)
        yield talk


def zones(talk: Talk) -> dict[str, Message]:
    return {record["zone"]: record["counts"] for record in talk.ask("zones.list", stream="cam")["zones"]}


def test_a_configured_line_and_polygon_count_who_passes(film: Path, tmp_path: Path) -> None:
    with serving(configured(film, tmp_path, {"gate": GATE, "room": ROOM})) as talk:
        talk.subscribe("events/cam/")
        talk.subscribe("tracks/cam/")
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[MOVING], frame=0, label="cart")
        crossed = talk.receive_until(lambda m: m.get("event") == "line_crossed")
        assert (crossed["zone"], crossed["object"], crossed["label"]) == ("gate", 1, "cart")
        assert crossed["direction"] == "to_right"
        entered = talk.receive_until(lambda m: m.get("event") == "zone_entered")
        assert 55 <= entered["frame"] <= 70
        tracks = talk.receive_until(lambda m: "objects" in m)
        assert tracks["zones"] == {
            "gate": {"to_left": 0, "to_right": 1},
            "room": {"entered": 1, "left": 0, "inside": [1]},
        }
        figures = {
            (metric.name, sample.labels.get("zone"), sample.labels.get("what")): sample.value
            for metric in talk.daemon.metrics._registry.collect()
            for sample in metric.samples
        }
        assert figures["tracker_zone_occupancy", "room", None] == 1
        assert figures["tracker_zone_events", "gate", "to_right"] == 1
        talk.ask("objects.remove", stream="cam", object=1)
        left = talk.receive_until(lambda m: m.get("event") == "zone_left")
        assert left["dwell_s"] > 0
        told = [event["event"] for event in talk.ask("history.list", stream="cam", object=1)["events"]]
        assert {"line_crossed", "zone_entered", "zone_left"} <= set(told)


def test_zones_are_set_listed_replaced_and_removed(talk: Talk) -> None:
    record = talk.ask("zones.set", stream="cam", zone="room", **ROOM)
    assert record["settings"]["polygon"] == ROOM["polygon"]
    assert record["counts"] == {"entered": 0, "left": 0, "inside": []}
    talk.ask("zones.set", stream="cam", zone="room", **GATE)
    assert zones(talk) == {"room": {"to_left": 0, "to_right": 0}}
    assert talk.ask("zones.remove", stream="cam", zone="room")["zone"] == "room"
    assert zones(talk) == {}


@pytest.mark.parametrize(
    ("op", "args", "code", "text"),
    [
        ("zones.set", {"zone": "a"}, "bad_request", "either polygon or line"),
        ("zones.set", {"zone": "a", **GATE, **ROOM}, "bad_request", "either polygon or line"),
        ("zones.set", {"zone": "A b", **GATE}, "bad_request", "zone"),
        ("zones.set", {"zone": "a", "polygon": [[0, 0], [9, 9], [9, 0], [0, 9]]}, "bad_request", "cross"),
        ("zones.set", {"zone": "a", "line": [[1, 1], [1, 1]]}, "bad_request", "the same"),
        ("zones.set", {"zone": "a", "line": [[1, 1], [2, 2]], "loiter_s": 1}, "bad_request", "loiter_s"),
        (
            "zones.set",
            {"zone": "a", "line": [[1, 1], [2, 2]], "unit": "fraction"},
            "bad_request",
            "between 0 and 1",
        ),
        ("zones.set", {"zone": "a", **ROOM, "labels": []}, "bad_request", "args.labels"),
        ("zones.set", {"zone": "a", "line": [[900, 1], [900, 2]]}, "bad_request", "line: it lies outside"),
        (
            "zones.set",
            {"zone": "a", "polygon": [[-9, 0], [-9, 9], [-1, 0]]},
            "bad_request",
            "polygon: it lies outside",
        ),
        ("zones.set", {"zone": "a", "polygon": [[0, 0]] * 65}, "bad_request", "64"),
        ("zones.remove", {"zone": "a"}, "unknown_zone", "there: none"),
    ],
)
def test_what_is_refused(talk: Talk, op: str, args: dict[str, Any], code: str, text: str) -> None:
    found, message = talk.refused(op, stream="cam", **args)
    assert found == code
    assert text in message


def test_there_is_an_end_to_them(talk: Talk) -> None:
    for k in range(32):
        talk.ask("zones.set", stream="cam", zone=f"z{k}", **GATE)
    assert talk.refused("zones.set", stream="cam", zone="more", **GATE)[0] == "at_capacity"
    talk.ask("zones.set", stream="cam", zone="z3", **ROOM)


def test_they_are_drawn(talk: Talk) -> None:
    plain = decode(talk.ask("frames.get", stream="cam", frame=0, format="png", overlay=True)["data"])
    talk.ask("zones.set", stream="cam", zone="gate", **GATE)
    drawn = decode(talk.ask("frames.get", stream="cam", frame=0, format="png", overlay=True)["data"])
    assert np.abs(drawn[60, 50].astype(int) - plain[60, 50]).max() > 50


def test_zones_and_counts_outlive_a_restart_and_count_nobody_twice(film: Path, tmp_path: Path) -> None:
    config = configured(film, tmp_path)
    with serving(config) as talk:
        talk.subscribe("events/cam/")
        talk.ask("zones.set", stream="cam", zone="gate", **GATE)
        talk.ask("zones.set", stream="cam", zone="room", **ROOM)
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[MOVING], frame=0)
        talk.receive_until(lambda m: m.get("event") == "zone_entered")
        talk.ask("streams.pause", stream="cam")
        before = zones(talk)
        assert before == {"gate": {"to_left": 0, "to_right": 1}, "room": {"entered": 1, "left": 0, "inside": [1]}}
    with serving(config) as talk:
        assert zones(talk) == before


def test_the_configuration_counts_where_it_says_something_new(film: Path, tmp_path: Path) -> None:
    with serving(configured(film, tmp_path, {"a": GATE, "b": GATE})) as talk:
        talk.ask("zones.set", stream="cam", zone="a", **ROOM)
        talk.ask("zones.remove", stream="cam", zone="b")
        talk.ask("zones.set", stream="cam", zone="c", **ROOM)
    with serving(configured(film, tmp_path, {"a": GATE, "b": GATE})) as talk:
        assert [set(counts) for counts in zones(talk).values()] == [{"entered", "left", "inside"}] * 2
    with serving(configured(film, tmp_path, {"b": ROOM})) as talk:
        assert set(zones(talk)) == {"b", "c"}


def test_a_removed_stream_takes_its_zones_along(film: Path, tmp_path: Path) -> None:
    config = configured(film, tmp_path)
    with serving(config) as talk:
        talk.ask("zones.set", stream="cam", zone="gate", **GATE)
        talk.ask("streams.remove", stream="cam")
        assert talk.ask("zones.list") == {"zones": []}
    with serving(config) as talk:
        assert talk.ask("zones.list") == {"zones": []}
