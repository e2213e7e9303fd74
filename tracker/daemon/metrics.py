"""Figures for Prometheus, and whether the daemon is alive and serving, over HTTP; read when somebody asks."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from msgspec import UNSET
from prometheus_client import CollectorRegistry, Histogram, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tracker.daemon.events import Events
from tracker.daemon.persistence import Persistence
from tracker.daemon.watch import Part, resident_bytes
from tracker.errors import ConfigError
from tracker.protocol.replies import ZoneCounts
from tracker.threads import NamedThread
from tracker.tracking.state import StreamTable, TrackedObject

log = logging.getLogger(__name__)

REQUEST_S = 2.0  # for a request to come in: one at a time is served, and none holds up the next for longer
STEP_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]


class Metrics:
    """`/metrics`, `/healthz` (all threads live) and `/readyz` (requests are answered). Off without an endpoint."""

    def __init__(self, endpoint: str | None, figures: "Figures", is_ready: Callable[[], bool]) -> None:
        self._endpoint = endpoint
        self._figures = figures
        self._is_ready = is_ready
        registry = CollectorRegistry()
        registry.register(figures)
        self._steps = Histogram(
            "tracker_step_seconds", "Time of a step of the model.", buckets=STEP_BUCKETS_S, registry=registry
        )
        self._show = make_wsgi_app(registry)
        self._server: WSGIServer | None = None
        self._thread = NamedThread(target=self._run, name="metrics", daemon=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.server_port

    def observe_step(self, seconds: float) -> None:
        self._steps.observe(seconds)

    def start(self) -> None:
        """Raises ConfigError where the endpoint cannot be had."""
        if self._endpoint is None:
            return
        host, _, port = self._endpoint.rpartition(":")
        try:
            self._server = make_server(host, int(port), self._answer, handler_class=_Handler)
        except OverflowError:
            raise self._unbound("there is no such port") from None
        except OSError as error:
            raise self._unbound(str(error.strerror)) from None
        self._thread.start()

    def _unbound(self, why: str) -> ConfigError:
        return ConfigError([f"metrics.endpoint: {self._endpoint} cannot be bound: {why}"])

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def _run(self) -> None:
        assert self._server is not None
        self._server.serve_forever(poll_interval=0.1)

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            shown: Iterable[bytes] = self._show(environ, start_response)
            return shown
        checks = {"/healthz": self._figures.all_alive, "/readyz": self._is_ready}
        status = "404 Not Found"
        if path in checks:
            status = "200 OK" if checks[path]() else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain")])
        return [f"{status[4:].lower()}\n".encode()]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_S

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line for each."""


class Figures(Collector):
    """Reads what the main loop counts; all labels have few values."""

    def __init__(
        self,
        table: StreamTable,
        events: Events,
        persistence: Persistence,
        parts: dict[str, Part],
        zones: Callable[[], dict[str, dict[str, ZoneCounts]]] = dict,
    ) -> None:
        self._table = table
        self._events = events
        self._persistence = persistence
        self._parts = parts
        self._zones = zones

    def all_alive(self) -> bool:
        return all(part.is_alive() for part in self._parts.values())

    def collect(self) -> Iterator[Metric]:
        yield from self._of_streams()
        yield from self._of_zones()
        events = CounterMetricFamily("tracker_events", "Events by name.", labels=["event"])
        for name, count in self._events.counts().items():
            events.add_metric([name], count)
        threads = GaugeMetricFamily("tracker_thread_alive", "1 while a thread lives.", labels=["thread"])
        for name, part in self._parts.items():
            threads.add_metric([name], part.is_alive())
        yield events
        yield threads
        yield GaugeMetricFamily("tracker_resident_memory_bytes", "Of the process.", resident_bytes())
        store = self._persistence.store
        saving = store is not None and not store.failed
        yield GaugeMetricFamily("tracker_saving", "1 while changes reach the disk.", saving)

    def _of_zones(self) -> Iterator[Metric]:
        occupancy = GaugeMetricFamily("tracker_zone_occupancy", "Objects in a polygon.", labels=["stream", "zone"])
        counted = CounterMetricFamily(
            "tracker_zone_events", "Who entered, left and crossed.", labels=["stream", "zone", "what"]
        )
        for stream, zones in self._zones().items():
            for zone, counts in zones.items():
                if counts.inside is not UNSET:
                    occupancy.add_metric([stream, zone], len(counts.inside))
                for what, count in _zone_counts(counts).items():
                    counted.add_metric([stream, zone, what], count)
        yield from (occupancy, counted)

    def _of_streams(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tracker_stream_up", "1 while frames come.", labels=["stream"])
        frames = CounterMetricFamily("tracker_frames", "Frames by what became of them.", labels=["stream", "fate"])
        reconnects = CounterMetricFamily("tracker_reconnects", "Connected again.", labels=["stream"])
        buffered = GaugeMetricFamily("tracker_buffer_bytes", "Of the rolling buffer.", labels=["stream"])
        objects = GaugeMetricFamily("tracker_objects", "Objects by state.", labels=["stream", "state"])
        for stream in self._table:
            source, name = stream.source, stream.name
            up.add_metric([name], source.state == "live")
            fates = {"processed": stream.step + 1, "dropped": stream.dropped, "corrupt": source.corrupt}
            for fate, count in fates.items():
                frames.add_metric([name, fate], count)
            reconnects.add_metric([name], source.reconnects)
            buffered.add_metric([name], source.buffer.nbytes)
            states = Counter(map(_state, list(stream.objects.values())))
            for state in ("visible", "lost", "pending"):
                objects.add_metric([name, state], states[state])
        yield from (up, frames, reconnects, buffered, objects)


def _zone_counts(counts: ZoneCounts) -> dict[str, int]:
    """A zone's counters by name."""
    named = {name: getattr(counts, name) for name in ("entered", "left", "to_left", "to_right")}
    return {name: count for name, count in named.items() if count is not UNSET}


def _state(obj: TrackedObject) -> str:
    return "pending" if obj.pending else "visible" if obj.visible else "lost"
