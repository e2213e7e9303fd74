"""What Prometheus and a load balancer see of a daemon."""

import shutil
import threading
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from helpers.fakes import BlobEngine
from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from tracker.daemon.daemon import Daemon
from tracker.daemon.figures import Figures
from tracker.errors import ConfigError


def read(talk: Talk, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{talk.daemon.metrics.port}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_the_figures_are_the_daemons(tmp_path: Path) -> None:
    film = blobs(tmp_path / "blobs.mp4")
    config = configuration(
        streams={"cam": {"url": str(film), "loop": True}},
        persist={"dir": str(tmp_path / "state")},
        metrics={"endpoint": "127.0.0.1:0"},
    )
    with serving(config) as talk:
        talk.wait_for_frame(1)
        talk.ask("objects.add", stream="cam", points=[[120, 90]])
        wait_until(lambda: talk.ask("objects.list")["objects"][0]["age"] > 2)
        assert read(talk, "/healthz") == (200, "ok\n")
        wait_until(lambda: read(talk, "/readyz") == (200, "ok\n"))
        assert read(talk, "/")[0] == 404
        status, text = read(talk, "/metrics")
        assert status == 200
        for line in (
            'tracker_stream_up{stream="cam"} 1.0',
            'tracker_objects{state="visible",stream="cam"} 1.0',
            'tracker_events_total{event="object_added"} 1.0',
            'tracker_thread_alive{thread="registry"} 1.0',
            "tracker_saving 1.0",
        ):
            assert line in text.splitlines()


def shown(talk: Talk, text: str) -> bool:
    return text in read(talk, "/metrics")[1]


def value(text: str, name: str) -> float:
    """Of one line, labels and all."""
    (found,) = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(found.rpartition(" ")[2])


def delivered(talk: Talk) -> float:
    return value(read(talk, "/metrics")[1], 'tracker_stage_seconds_count{stage="delivery"}')


def test_where_time_goes_what_waits_and_what_was_refused(tmp_path: Path) -> None:
    film = blobs(tmp_path / "blobs.mp4")
    config = configuration(
        streams={"cam": {"url": str(film), "loop": True}, "gone": {"url": str(film), "loop": True}},
        persist={"dir": str(tmp_path / "state"), "interval_s": 0.05},
        metrics={"endpoint": "127.0.0.1:0"},
    )
    with serving(config) as talk:
        wait_until(lambda: all(s["decoded"] for s in talk.ask("streams.list")["streams"]))
        talk.ask("objects.add", stream="cam", points=[[120, 90]])
        talk.refused("objects.add", stream="cam", points=[[1, 1]], object=1)
        talk.refused("objects.list", stream="nowhere")
        for stage in ("wait", "model", "hand_over", "delivery"):
            wait_until(partial(shown, talk, f'tracker_stage_seconds_count{{stage="{stage}"}}'))
        wait_until(lambda: value(read(talk, "/metrics")[1], 'tracker_latency_seconds_count{stream="gone"}') > 1)
        wait_until(lambda: value(read(talk, "/metrics")[1], 'tracker_saves_total{result="ok"}') > 2)
        text = read(talk, "/metrics")[1]
        assert value(text, 'tracker_requests_total{code="already_exists"}') == 1
        assert value(text, 'tracker_requests_total{code="unknown_stream"}') == 1
        assert value(text, 'tracker_requests_total{code="ok"}') >= 2
        assert value(text, 'tracker_saves_total{result="failed"}') == 0
        assert value(text, "tracker_config_applied") == 1
        for queue in ("requests", "jobs", "delivery", "publish", "registry"):
            assert value(text, f'tracker_queue_length{{queue="{queue}"}}') >= 0
        for fate in ("decoded", "processed", "dropped", "corrupt"):
            assert value(text, f'tracker_frames_total{{fate="{fate}",stream="cam"}}') >= 0
        assert 'tracker_info{device="cpu",model="blobs",version=' in text
        assert value(text, 'tracker_thread_alive{thread="main"}') == 1
        talk.ask("streams.remove", stream="gone")
        assert 'stream="gone"' not in read(talk, "/metrics")[1]


def test_a_stream_that_is_removed_while_its_frame_is_counted_leaves_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, removed, has_stream = threading.Event(), threading.Event(), Figures.has_stream

    def slowly(self: Figures, name: str) -> bool:
        answer = has_stream(self, name)
        if name == "gone" and not asked.is_set():
            asked.set()
            removed.wait(30)
        return answer

    monkeypatch.setattr(Figures, "has_stream", slowly)
    film = {"url": str(blobs(tmp_path / "blobs.mp4")), "loop": True}
    with serving(configuration(streams={"cam": film, "gone": film}, metrics={"endpoint": "127.0.0.1:0"})) as talk:
        assert asked.wait(30)
        talk.ask("streams.remove", stream="gone")
        counted = delivered(talk)
        removed.set()
        wait_until(lambda: delivered(talk) > counted + 1)
        assert 'stream="gone"' not in read(talk, "/metrics")[1]


def test_frames_are_counted_from_zero_in_each_process(tmp_path: Path) -> None:
    """Their numbers go on over a restart; a counter that began there would look like a burst of frames."""
    film = blobs(tmp_path / "blobs.mp4")
    config = configuration(
        streams={"cam": {"url": str(film), "loop": True}},
        persist={"dir": str(tmp_path / "state")},
        metrics={"endpoint": "127.0.0.1:0"},
    )
    first = 0
    for _ in range(2):
        with serving(config) as talk:
            wait_until(lambda: talk.ask("streams.list")["streams"][0]["frame"] is not None)
            counted = value(read(talk, "/metrics")[1], 'tracker_frames_total{fate="decoded",stream="cam"}')
            last = talk.ask("streams.list")["streams"][0]["decoded"]
            assert 0 < counted <= last - first
            first = last
    assert first > counted


def test_saves_that_fail_are_counted(tmp_path: Path) -> None:
    state, film = tmp_path / "state", blobs(tmp_path / "blobs.mp4")
    config = configuration(
        streams={"cam": {"url": str(film), "loop": True}},
        persist={"dir": str(state)},
        metrics={"endpoint": "127.0.0.1:0"},
    )
    with serving(config) as talk:
        talk.wait_for_frame(0)
        shutil.rmtree(state)
        state.write_text("in the way")
        assert talk.ask("objects.add", stream="cam", points=[[120, 90]])["durable"] is False
        text = read(talk, "/metrics")[1]
        assert value(text, 'tracker_saves_total{result="failed"}') >= 1
        assert value(text, "tracker_saving") == 0


def test_an_endpoint_that_is_taken_is_refused() -> None:
    taken = configuration(metrics={"endpoint": "127.0.0.1:0"})
    with serving(taken) as talk:
        second = configuration(metrics={"endpoint": f"127.0.0.1:{talk.daemon.metrics.port}"})
        with pytest.raises(ConfigError, match=r"metrics\.endpoint: .* cannot be bound"):
            Daemon(second, BlobEngine()).run()  # type: ignore[arg-type]
