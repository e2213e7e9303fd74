"""Streams that send nothing new when a page is opened: their last frame is shown, with the objects seen on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.faulty_camera import faulty_camera
from helpers.pages import app, chromium, open_page, page_server, until
from helpers.tracking import Talk, blobs, configuration, serving
from helpers.waiting import wait_until

pytestmark = pytest.mark.browser

STATES = ["paused", "ended", "failed", "stalled"]
GREY = 60  # of the film's ground
THUMBNAIL = """[...document.querySelector(".thumbnail").getContext("2d").getImageData(48, 48, 1, 1).data]
    .every((value) => value > 200)"""
GROUND = "(() => [...app.tiles.tiles.get('STREAM').canvas.getContext('2d').getImageData(4, 4, 1, 1).data])()"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that stops is stalled soon, and not given up while a test lasts."""
    monkeypatch.setattr("tracker.streams.stream.STALL_S", 0.5)
    monkeypatch.setattr("tracker.streams.decoder.OPEN_TIMEOUT_S", 300.0)
    monkeypatch.setattr("tracker.streams.stream.GIVE_UP_STALLS", 1000.0)


@contextmanager
def daemon_of_still_streams(folder: Path) -> Iterator[Talk]:
    """One in each state, each with a frame in its buffer; an object on the paused one."""
    film, gone = blobs(folder / "film.mp4"), blobs(folder / "gone.mp4")
    with faulty_camera(video_stops_after=8) as camera:
        urls = {"paused": film, "ended": film, "failed": gone, "stalled": camera.url}
        streams = {name: {"url": str(url), "loop": name == "paused"} for name, url in urls.items()}
        with serving(configuration(streams=streams)) as talk:
            wait_until(lambda: state_of(talk, "failed") == "ended")
            gone.unlink()
            talk.ask("streams.resume", stream="failed")
            frame = talk.ask("frames.get", stream="paused")["frame"]
            talk.ask("objects.add", stream="paused", frame=frame, points=[[120, 90]])
            talk.ask("streams.pause", stream="paused")
            wait_until(lambda: all(state_of(talk, name) == name for name in STATES))
            yield talk


def state_of(talk: Talk, stream: str) -> str:
    states: dict[str, str] = {record["stream"]: record["state"] for record in talk.ask("streams.list")["streams"]}
    return states[stream]


@pytest.mark.usefixtures("patient")
def test_streams_that_send_nothing_show_their_last_frame(tmp_path: Path) -> None:
    with (
        daemon_of_still_streams(tmp_path) as talk,
        page_server(talk.daemon.control.endpoint) as address,
        chromium() as browser,
    ):
        with open_page(browser, f"{address}s/ended") as page:
            for name in STATES:
                until(page, f"app.tiles.tiles.get('{name}')?.filled")
            for name in ("paused", "ended", "failed"):
                assert_is_ground(app(page, GROUND.replace("STREAM", name)))
        with open_page(browser, f"{address}s/paused") as page:
            page.wait_for_selector("#view[data-frame]")
            seen = app(page, "app.view.picture.tracks.objects")
            assert [record["state"] for record in seen] == ["visible"]
            until(page, "app.tracked.list.rows.size === 1")
            until(page, THUMBNAIL)
            page.click("[data-stream=failed] .tile")
            until(page, "app.view.picture?.stream === 'failed'")
            said = app(page, "[`frame ${app.view.picture.frame}`, document.querySelector('#title').innerText]")
            assert said[0] in said[1]
            assert " ms" not in said[1]


def assert_is_ground(rgba: list[int]) -> None:
    assert rgba[:3] == pytest.approx([GREY] * 3, abs=8)


def test_an_object_on_a_paused_stream_is_drawn_once_it_is_added(tmp_path: Path) -> None:
    film = blobs(tmp_path / "film.mp4")
    config = configuration(streams={"cam": {"url": str(film), "loop": True}})
    with (
        serving(config) as talk,
        page_server(talk.daemon.control.endpoint) as address,
        chromium() as browser,
        open_page(browser, address) as page,
    ):
        page.wait_for_selector("#view[data-frame]")
        talk.ask("streams.pause", stream="cam")
        page.wait_for_selector(".state[data-state='paused']")
        added = talk.ask("objects.add", stream="cam", points=[[120, 90]])["object"]
        until(page, f"app.view.picture.tracks?.objects.some(({{ object }}) => object === {added})")
        talk.ask("objects.remove", stream="cam", object=added)
        until(page, "app.view.picture.tracks?.objects.length === 0")
