"""`segment.*` through the daemon, with a real network whose weights are as they were initialised."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
import torch
import zmq

from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from tracker.config import Config
from tracker.engine.engine import Engine
from tracker.engine.models.build import Model, network
from tracker.engine.models.zoo import config_path
from tracker.tracking.jobs import MAX_JOBS_OF_ONE

POINT = [[40, 40]]
# Untrained masks are neither confident nor stable, and all of them are wanted.
EVERYTHING = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "box_nms_thresh": 1.0, "points_per_side": 4}


@pytest.fixture(scope="module")
def engine() -> Engine:
    torch.manual_seed(0)
    net = network(config_path("nano"), 128)
    net.sam_mask_decoder.pred_obj_score_head.layers[-1].bias += 4  # sees an object, where untrained ones see none
    return Engine(Model("nano", net))


@pytest.fixture
def talk(engine: Engine, tmp_path: Path) -> Iterator[Talk]:
    url = str(blobs(tmp_path / "blobs.mp4", frames=20))
    with serving(configuration(streams={"cam": {"url": url, "loop": True}}), engine) as talk:
        talk.wait_for_frame(5)
        yield talk


class TestPrompt:
    def test_three_candidates_best_first(self, talk: Talk) -> None:
        result = talk.ask("segment.prompt", stream="cam", frame=0, points=POINT, multimask=True)
        scores = [candidate["score"] for candidate in result["candidates"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert talk.ask("objects.list") == {"objects": []}

    def test_a_ref_is_corrected(self, talk: Talk) -> None:
        first = talk.ask("segment.prompt", stream="cam", frame=0, points=POINT)["candidates"]
        ref = first[0]["ref"]
        (again,) = talk.ask("segment.prompt", stream="cam", frame=0, points=POINT, ref=ref)["candidates"]
        assert again["score"] != first[0]["score"]
        assert talk.ask("segment.prompt", stream="cam", frame=0, ref=ref)["candidates"]

    @pytest.mark.parametrize(
        ("args", "code"),
        [
            ({"ref": "nonsense"}, "ref_gone"),
            ({}, "bad_prompt"),
            ({"points": [[999, 1]]}, "bad_prompt"),
            ({"points": POINT, "frame": 10**6}, "frame_gone"),
        ],
    )
    def test_refusals(self, talk: Talk, args: dict[str, Any], code: str) -> None:
        assert talk.refused("segment.prompt", stream="cam", **args)[0] == code


class TestAll:
    def test_everything_with_progress(self, talk: Talk) -> None:
        talk.subscribe("events/cam/")
        result = talk.ask("segment.all", stream="cam", frame=0, points_per_batch=8, **EVERYTHING)
        assert result["masks"]
        assert all("object" not in mask for mask in result["masks"])
        progress = [talk.receive_until(lambda m: m["event"] == "segment_progress") for _ in range(2)]
        assert [(m["id"], m["done"], m["total"]) for m in progress] == [(7, 8, 16), (7, 16, 16)]

    def test_at_most_so_many_and_exclusive(self, talk: Talk) -> None:
        result = talk.ask("segment.all", stream="cam", frame=0, max_masks=3, exclusive=True, **EVERYTHING)
        assert 1 <= len(result["masks"]) <= 3
        assert sum(mask["area"] for mask in result["masks"]) <= 160 * 120

    def test_what_is_found_can_be_tracked(self, talk: Talk) -> None:
        knobs = {**EVERYTHING, "multimask": False, "max_masks": 2}
        first = talk.ask("segment.all", stream="cam", frame=0, track=True, **knobs)["masks"]
        ids = [mask["object"] for mask in first]
        assert ids == [record["object"] for record in talk.ask("objects.list")["objects"]]
        again = talk.ask("segment.all", stream="cam", frame=0, track=True, **knobs)["masks"]
        assert [mask["object"] for mask in again] == ids  # tracked already: no second object on the same thing

    def test_cancel(self, talk: Talk) -> None:
        other, stranger = Talk(talk.daemon, talk.token), Talk(talk.daemon)
        replies: list[Any] = []
        asking = threading.Thread(
            target=lambda: replies.append(
                talk.reply("segment.all", stream="cam", frame=0, points_per_batch=1, points_per_side=32)
            )
        )
        other.subscribe("events/cam/")
        asking.start()
        other.receive_until(lambda m: m["event"] == "segment_progress")
        assert stranger.refused("segment.cancel", id=7)[0] == "bad_request"
        stranger.close()
        other.ask("segment.cancel", id=7)
        asking.join()
        other.refused("segment.cancel", id=7)
        other.close()
        assert replies[0]["error"] == {"code": "unavailable", "message": "cancelled by segment.cancel"}

    def test_a_stream_that_is_removed_meanwhile_gets_no_objects(self, talk: Talk) -> None:
        other = Talk(talk.daemon)
        replies: list[Any] = []
        knobs = {**EVERYTHING, "points_per_side": 8, "points_per_batch": 1, "track": True, "max_masks": 2}
        asking = threading.Thread(
            target=lambda: replies.append(talk.reply("segment.all", stream="cam", frame=0, **knobs))
        )
        other.subscribe("events/cam/")
        asking.start()
        other.receive_until(lambda m: m["event"] == "segment_progress")
        other.ask("streams.remove", stream="cam")
        asking.join()
        assert replies[0]["error"]["code"] == "unknown_stream"
        assert other.ask("objects.list") == {"objects": []}
        other.close()

    def test_no_more_at_once_than_memory_allows(self, talk: Talk) -> None:
        args = {"stream": "cam", "points_per_side": 32, "points_per_batch": 1}
        with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
            socket.linger, socket.rcvtimeo = 0, 30_000
            socket.connect(talk.daemon.control.endpoint)
            for number in range(MAX_JOBS_OF_ONE + 1):
                socket.send(msgpack.packb({"id": number, "op": "segment.all", "args": args}))
            reply = msgpack.unpackb(socket.recv())
        assert (reply["id"], reply["error"]["code"]) == (MAX_JOBS_OF_ONE, "at_capacity")
        assert talk.ask("server.info")["name"] == "tracker"

    @pytest.mark.parametrize(
        ("args", "code"),
        [
            ({"stream": "nope"}, "unknown_stream"),
            ({"stream": "cam", "frame": 10**6}, "frame_gone"),
            ({"stream": "cam", "points_per_side": 0}, "bad_request"),
        ],
    )
    def test_refusals(self, talk: Talk, args: dict[str, Any], code: str) -> None:
        assert talk.refused("segment.all", **args)[0] == code


def test_nobody_cancels_a_search_of_the_daemons_own(engine: Engine, tmp_path: Path) -> None:
    url = str(blobs(tmp_path / "blobs.mp4", frames=20))
    discover = {"every_s": 0.01, "points_per_side": 32}
    with serving(configuration(streams={"cam": {"url": url, "loop": True, "discover": discover}}), engine) as talk:
        talk.wait_for_frame(10)
        for _ in range(10):
            assert talk.refused("segment.cancel", id=None)[0] == "bad_request"


def test_discovery_waits_for_the_next_frame_of_a_slow_camera(engine: Engine, tmp_path: Path) -> None:
    """What was found is looked at again on another frame, however late it comes, and not searched anew."""
    url = str(blobs(tmp_path / "blobs.mp4", frames=20, fps=0.5))
    watching = {"every_s": 600, "lasts_s": 0, "min_area": 20, "max_objects": 1, "points_per_side": 3}
    loose = {"pred_iou_thresh": 0, "stability_score_thresh": 0}
    config = configuration(streams={"cam": {"url": url, "loop": True, "discover": {**watching, **loose}}})
    with serving(config, engine) as talk:
        wait_until(lambda: len(talk.ask("objects.list")["objects"]) == 1)


def test_discovery_goes_by_a_new_configuration_at_once(engine: Engine, tmp_path: Path) -> None:
    url = str(blobs(tmp_path / "blobs.mp4", frames=20))
    loose = {"pred_iou_thresh": 0, "stability_score_thresh": 0, "points_per_side": 3, "lasts_s": 0}

    def watching(**discover: Any) -> Config:
        return configuration(streams={"cam": {"url": url, "loop": True, "discover": {**loose, **discover}}})

    in_vain = watching(every_s=600, min_area=160 * 120 + 1)
    found = watching(every_s=0.05, min_area=20, max_objects=1)
    with serving(in_vain, engine, lambda: found) as talk:

        def has_searched() -> bool:
            watches = list(talk.daemon._discovery._watches.values())
            return [w.due_s > time.monotonic() + 60 and not w.at_work for w in watches] == [True]

        wait_until(has_searched)
        talk.daemon.reload()
        wait_until(lambda: len(talk.ask("objects.list")["objects"]) == 1)


def test_discovery_follows_what_is_new_and_no_more_than_it_may(engine: Engine, tmp_path: Path) -> None:
    url = str(blobs(tmp_path / "blobs.mp4", frames=20))
    watching = {"every_s": 0.2, "lasts_s": 0.1, "min_area": 20, "max_objects": 1, "points_per_side": 3}
    loose = {"pred_iou_thresh": 0, "stability_score_thresh": 0}
    config = configuration(streams={"cam": {"url": url, "loop": True, "discover": {**watching, **loose}}})
    with serving(config, engine) as talk:
        wait_until(lambda: len(talk.ask("objects.list")["objects"]) == 1)
        frame = talk.ask("streams.list")["streams"][0]["frame"]
        talk.wait_for_frame(frame + 20)
        found = talk.ask("objects.list")["objects"]
        assert [record["object"] for record in found] == [1]
        assert all(record["age"] > 0 for record in found)
