"""What Prometheus and a load balancer see of a daemon."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from helpers.fakes import BlobEngine
from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from tracker.daemon.daemon import Daemon
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
        assert "tracker_step_seconds_bucket" in text


def test_an_endpoint_that_is_taken_is_refused() -> None:
    taken = configuration(metrics={"endpoint": "127.0.0.1:0"})
    with serving(taken) as talk:
        second = configuration(metrics={"endpoint": f"127.0.0.1:{talk.daemon.metrics.port}"})
        with pytest.raises(ConfigError, match=r"metrics\.endpoint: .* cannot be bound"):
            Daemon(second, BlobEngine()).run()  # type: ignore[arg-type]
