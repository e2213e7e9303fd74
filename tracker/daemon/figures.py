"""What the daemon counts, as Prometheus reads it: base units, few values of each label."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from msgspec import UNSET
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

import tracker
from tracker.daemon.context import Context
from tracker.daemon.watch import Part, resident_bytes
from tracker.protocol.records import ZoneCounts
from tracker.tracking.state import TrackedObject


class Figures(Collector):
    """Collected in the thread of the metrics, while the main loop goes on counting.

    `queues` say how much waits in each, `requests` how many there were by the code that they were answered with.
    """

    def __init__(
        self,
        context: Context,
        parts: Mapping[str, Part],
        queues: Mapping[str, Callable[[], int]],
        requests: Callable[[], dict[str, int]],
        config_applied: Callable[[], bool],
    ) -> None:
        self._context = context
        self._parts = parts
        self._queues = queues
        self._requests = requests
        self._config_applied = config_applied

    def all_alive(self) -> bool:
        return all(part.is_alive() for part in self._parts.values())

    def has_stream(self, name: str) -> bool:
        return name in self._context.table

    def collect(self) -> Iterator[Metric]:
        yield from self._of_streams()
        yield from self._of_zones()
        yield from self._of_process()
        yield from self._of_state()
        yield counters("tracker_events", "Events by name.", "event", self._context.events.counts())
        yield counters("tracker_requests", "Requests by the code of their reply.", "code", self._requests())
        failed = self._context.failures.counts()
        yield counters("tracker_failures", "Work that failed while all else went on.", "work", failed)
        described = dict(self._context.described)
        yield counters("tracker_descriptions", "Questions to the describing server.", "outcome", described)
        waiting = {name: length() for name, length in self._queues.items()}
        yield gauges("tracker_queue_length", "What waits between threads.", "queue", waiting)

    def _of_streams(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("tracker_stream_up", "1 while frames come.", labels=["stream"])
        frames = CounterMetricFamily("tracker_frames", "Frames by what became of them.", labels=["stream", "fate"])
        reconnects = CounterMetricFamily("tracker_reconnects", "Connected again.", labels=["stream"])
        buffered = GaugeMetricFamily("tracker_buffer_bytes", "Of the rolling buffer.", labels=["stream"])
        objects = GaugeMetricFamily("tracker_objects", "Objects by state.", labels=["stream", "state"])
        for stream in self._context.table:
            source, name = stream.source, stream.name
            up.add_metric([name], source.state == "live")
            frames.add_metric([name, "decoded"], source.decoded - source.numbered_from)
            frames.add_metric([name, "processed"], stream.step + 1)
            frames.add_metric([name, "dropped"], stream.dropped)
            frames.add_metric([name, "corrupt"], source.corrupt)
            reconnects.add_metric([name], source.reconnects)
            buffered.add_metric([name], source.buffer.nbytes)
            states = Counter(map(_state, list(stream.objects.values())))
            for state in ("visible", "lost", "pending"):
                objects.add_metric([name, state], states[state])
        yield from (up, frames, reconnects, buffered, objects)

    def _of_zones(self) -> Iterator[Metric]:
        occupancy = GaugeMetricFamily("tracker_zone_occupancy", "Objects in a polygon.", labels=["stream", "zone"])
        counted = CounterMetricFamily(
            "tracker_zone_events", "Who entered, left and crossed.", labels=["stream", "zone", "what"]
        )
        for stream, zones in self._context.zones.counts().items():
            for zone, counts in zones.items():
                if counts.inside is not UNSET:
                    occupancy.add_metric([stream, zone], len(counts.inside))
                for what, count in _zone_counts(counts).items():
                    counted.add_metric([stream, zone, what], count)
        yield from (occupancy, counted)

    def _of_process(self) -> Iterator[Metric]:
        engine = self._context.engine
        described, memory = engine.describe(), engine.memory()
        info = {"version": tracker.__version__, "model": described["name"], "device": described["device"]}
        yield InfoMetricFamily("tracker", "What runs here.", info)
        alive = {name: part.is_alive() for name, part in self._parts.items()}
        yield gauges("tracker_thread_alive", "1 while a thread lives.", "thread", alive)
        yield gauge("tracker_resident_memory_bytes", "Of the process.", resident_bytes())
        yield gauge(
            "tracker_device_memory_bytes", "Of the model's device, held by the process.", memory["used_bytes"]
        )
        yield gauge("tracker_device_memory_size_bytes", "Of the model's device, in all.", memory["total_bytes"])
        yield gauge(
            "tracker_config_applied", "0: the file was wrong when it was read last.", self._config_applied()
        )

    def _of_state(self) -> Iterator[Metric]:
        store = self._context.persistence.store
        saving = store is not None and not store.failed
        yield gauge("tracker_saving", "1 while changes reach the disk.", saving)
        saves = {"ok": 0, "failed": 0} if store is None else {"ok": store.saves, "failed": store.failures}
        yield counters("tracker_saves", "Transactions on the state's disk.", "result", saves)
        notes = dict.fromkeys(self._context.events.notes, 1)
        yield gauges("tracker_note", "1 while a program beside the daemon reports something.", "name", notes)


def _zone_counts(counts: ZoneCounts) -> dict[str, int]:
    """What a zone has counted, by what it was."""
    named = {name: getattr(counts, name) for name in ("entered", "left", "to_left", "to_right")}
    return {name: count for name, count in named.items() if count is not UNSET}


def gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value)


def gauges(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=[label])
    return _filled(family, values)


def counters(name: str, help_text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=[label])
    return _filled(family, values)


def _filled(family: Any, values: Mapping[str, float]) -> Metric:
    for value_of_label, value in values.items():
        family.add_metric([value_of_label], value)
    filled: Metric = family
    return filled


def _state(obj: TrackedObject) -> str:
    return "pending" if obj.pending else "visible" if obj.visible else "lost"
