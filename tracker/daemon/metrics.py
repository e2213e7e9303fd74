"""Figures for Prometheus, and whether the daemon is alive and serving, over HTTP; read when somebody asks."""

import contextlib
import logging
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Histogram, make_wsgi_app

from tracker.daemon.delivery import ProcessedFrame
from tracker.daemon.figures import Figures
from tracker.scraping import Environ, Scraped, StartResponse
from tracker.threads import Failures

log = logging.getLogger(__name__)

BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """`/metrics`, `/healthz` (all threads live) and `/readyz` (requests are answered). Off without an endpoint.

    `open` it before it starts.
    """

    def __init__(self, endpoint: str | None, is_ready: Callable[[], bool], failures: Failures) -> None:
        self._server = None if endpoint is None else Scraped(endpoint, self._answer)
        self._failures = failures
        self._figures: Figures | None = None
        self._is_ready = is_ready
        self._registry = registry = CollectorRegistry()
        self._stages = Histogram(
            "tracker_stage_seconds", "Where a frame's time goes.", ["stage"], buckets=BUCKETS_S, registry=registry
        )
        self._latency = Histogram(
            "tracker_latency_seconds",
            "From a frame's arrival until its message is made.",
            ["stream"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self._show = make_wsgi_app(registry)

    def open(self, figures: Figures) -> None:
        """Say what is shown beside the times that are observed here: the other parts are there now."""
        self._figures = figures
        self._registry.register(figures)

    @property
    def port(self) -> int:
        assert self._server is not None
        return self._server.port

    def observe_step(self, seconds: float) -> None:
        """A step of the model took so long."""
        self._stages.labels("model").observe(seconds)

    def observe_delivered(self, processed: ProcessedFrame, started_ns: int, ended_ns: int) -> None:
        """Delivery was at a frame from `started_ns` to `ended_ns`. Called by its thread."""
        arrived_ns = processed.frame.mono_ns
        if processed.model_mono_ns is not None:
            model_started_ns, model_ended_ns = processed.model_mono_ns
            self._stages.labels("wait").observe((model_started_ns - arrived_ns) / 1e9)
            self._stages.labels("hand_over").observe((started_ns - model_ended_ns) / 1e9)
        self._stages.labels("delivery").observe((ended_ns - started_ns) / 1e9)
        self._observe_latency(processed.frame.stream, (ended_ns - arrived_ns) / 1e9)

    def forget(self, stream: str) -> None:
        """A stream was removed: its figures end."""
        with contextlib.suppress(KeyError):
            self._latency.remove(stream)

    def start(self) -> None:
        """Raises ConfigError where the endpoint cannot be had."""
        if self._server is not None:
            self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _observe_latency(self, stream: str, seconds: float) -> None:
        assert self._figures is not None
        if self._figures.has_stream(stream):
            self._latency.labels(stream).observe(seconds)
        if not self._figures.has_stream(stream):
            self.forget(stream)  # it may have been removed meanwhile

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            return self._shown(environ, start_response)
        assert self._figures is not None
        checks = {"/healthz": self._figures.all_alive, "/readyz": self._is_ready}
        status = "404 Not Found"
        if path in checks:
            status = "200 OK" if checks[path]() else "503 Service Unavailable"
        return _line(status, start_response)

    def _shown(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            shown: Iterable[bytes] = self._show(environ, start_response)
        except Exception as error:  # noqa: BLE001 - before anything of it was sent
            self._failures.add("metrics", error)
            return _line("500 Internal Server Error", start_response)
        return shown


def _line(status: str, start_response: StartResponse) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain")])
    return [f"{status[4:].lower()}\n".encode()]
