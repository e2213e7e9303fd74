"""Objects on a real camera that fails: they stay, and are found again."""

import pytest

from helpers.cameras import rtsp
from helpers.tracking import configuration, serving, wait_until

pytestmark = pytest.mark.rtsp

BRIGHT = [[20, 40]]  # the test picture's first bars, at 320 × 240


def test_objects_outlive_a_camera_that_goes_away() -> None:
    with (
        rtsp("--pattern", "smpte") as server,
        serving(configuration(streams={"cam": {"url": server.url()}})) as talk,
    ):
        talk.subscribe("events/cam/")
        talk.subscribe("tracks/cam/")
        talk.wait_for_frame(3)
        added = talk.ask("objects.add", stream="cam", points=BRIGHT, label="bars")
        before = talk.receive_until(lambda m: m.get("objects"))
        server.kill()
        down = talk.receive_until(lambda m: m.get("event") == "stream_down")
        assert "127.0.0.1" in down["message"]
        assert talk.ask("streams.list")["streams"][0]["objects"] == 1
        server.start()
        after = talk.receive_until(lambda m: m.get("epoch") == 1 and m.get("objects"))
        assert after["frame"] > before["frame"]
        (record,) = after["objects"]
        assert (record["object"], record["label"], record["state"]) == (added["object"], "bars", "visible")
        wait_until(lambda: talk.ask("streams.list")["streams"][0]["error"] is None)
        assert talk.ask("streams.list")["streams"][0]["reconnects"] == 1


def test_outlines_are_in_the_new_size_when_the_camera_changes_it() -> None:
    with (
        rtsp("--pattern", "smpte") as server,
        serving(configuration(streams={"cam": {"url": server.url()}})) as talk,
    ):
        talk.subscribe("tracks/cam/")
        talk.wait_for_frame(3)
        talk.ask("objects.add", stream="cam", points=BRIGHT)
        small = talk.receive_until(lambda m: m["objects"])["objects"][0]["box"]
        server.command("size 640x480")
        message = talk.receive_until(lambda m: m["size"] == [640, 480] and m["objects"])
        assert message["epoch"] >= 1
        assert message["objects"][0]["box"] == pytest.approx([2 * side for side in small], abs=24)
