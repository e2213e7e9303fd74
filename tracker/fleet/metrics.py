"""A box's figures for Prometheus, over HTTP."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tracker.scraping import Scraped


class Figures(Collector):
    """`gauges` are read when somebody asks; `counts` are counted up."""

    def __init__(self, gauges: Callable[[], dict[str, float]]) -> None:
        self.counts: Counter[str] = Counter(dict.fromkeys(("taken", "left", "refused", "nats_lost"), 0))
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        for name, value in self._gauges().items():
            yield GaugeMetricFamily(f"tracker_fleet_{name}", f"Of this box: {name.replace('_', ' ')}.", value)
        events = CounterMetricFamily("tracker_fleet_events", "What happened to this box.", labels=["event"])
        for name, count in dict(self.counts).items():
            events.add_metric([name], count)
        yield events


@contextlib.contextmanager
def serving(endpoint: str | None, figures: Figures) -> Iterator[None]:
    """Raises ConfigError where the endpoint cannot be had."""
    if endpoint is None:
        yield
        return
    registry = CollectorRegistry()
    registry.register(figures)
    server = Scraped(endpoint, make_wsgi_app(registry))
    server.start()
    try:
        yield
    finally:
        server.stop()
