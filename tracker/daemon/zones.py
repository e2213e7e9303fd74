"""Zones of all streams: set by the configuration and by clients, counted by delivery, kept by the registry.

The main loop changes them, delivery's thread counts, the metrics read: under one lock, for microseconds each.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from tracker.config import MAX_ZONES, ZoneConfig
from tracker.daemon.events import Events
from tracker.errors import AtCapacity, BadRequest, UnknownZone
from tracker.images.types import Frame
from tracker.masks.regions import outside_problem, region_problem
from tracker.masks.types import Shape
from tracker.protocol.records import ZoneCounts
from tracker.protocol.replies import ZoneRecord
from tracker.registry.rows import DropZones, PutZones, SavedZones
from tracker.registry.store import Store
from tracker.streams.stream import Stream
from tracker.tracking.records import ObjectSnapshot
from tracker.tracking.zone import SeenObject, ZoneChange
from tracker.tracking.zones import StreamZones


@dataclass(slots=True, eq=False)
class _Watched:
    source: Stream
    configured: dict[str, ZoneConfig]  # by the stream's own configuration
    zones: StreamZones


class Zones:
    """`events` gets what happens; `store` keeps zones and counts."""

    def __init__(self, events: Events, store: Store | None) -> None:
        self._events = events
        self._store = store
        self._lock = threading.Lock()
        self._watched: dict[str, _Watched] = {}
        self._saved = {row.stream: row for row in store.saved.zones} if store is not None else {}

    # ----------------------------------------------------------------------------------------- the main loop's

    def attach(self, source: Stream) -> None:
        """A stream is opened, or configured anew. What changed last counts: a client's change, or since then the
        configuration's."""
        configured = source.config.zones
        if source.name in self._watched:
            self.set_aside(source.name)
        saved = self._saved.pop(source.name, SavedZones(source.name, configured, configured, {}))
        zones = _merged(saved, configured)
        same = {name: state for name, state in saved.states.items() if zones.get(name) == saved.zones.get(name)}
        with self._lock:
            self._watched[source.name] = _Watched(source, configured, StreamZones(zones, same))

    def set_aside(self, stream: str) -> None:
        """A stream is closed; its zones wait until it is opened again."""
        with self._lock:
            self._saved[stream] = _row(self._watched.pop(stream))

    def forget(self, stream: str) -> None:
        """A stream is removed, and its zones with it."""
        with self._lock:
            del self._watched[stream]
        if self._store is not None:
            self._store.save_zones(DropZones(stream))

    def put(self, stream: str, name: str, config: ZoneConfig, size_wh: tuple[int, int] | None) -> ZoneRecord:
        """Set a zone; one that had the name goes. `size_wh`: of the picture, where it is known. Raises BadRequest,
        AtCapacity."""
        problem = region_problem(config.vertices)
        if problem is None and size_wh is not None and config.unit == "pixels":
            problem = outside_problem(config.vertices, size_wh)
        if problem is not None:
            raise BadRequest(problem)
        with self._lock:
            watched = self._watched[stream]
            there = watched.zones.configs
            if name not in there and len(there) >= MAX_ZONES:
                raise AtCapacity(f"stream {stream!r} has {MAX_ZONES} zones; remove one first")
            watched.zones.put(name, config)
            self._save(watched)
            return self._record(watched, name)

    def remove(self, stream: str, name: str) -> ZoneRecord:
        """Raises UnknownZone."""
        with self._lock:
            watched = self._watched[stream]
            there = watched.zones.configs
            if name not in there:
                known = ", ".join(sorted(there)) or "none"
                raise UnknownZone(f"zone: no zone of stream {stream!r} is called {name!r}; there: {known}")
            record = self._record(watched, name)
            watched.zones.remove(name)
            self._save(watched)
            return record

    def records(self, stream: str | None) -> list[ZoneRecord]:
        with self._lock:
            watched = [w for name, w in self._watched.items() if stream in (None, name)]
            return [self._record(w, name) for w in watched for name in w.zones.configs]

    def rows(self) -> list[PutZones]:
        """Everything that is kept of zones: where a new folder begins."""
        with self._lock:
            rows = [_row(watched) for watched in self._watched.values() if watched.zones]
            return [PutZones(row) for row in (*rows, *self._saved.values())]

    # ---------------------------------------------------------------------------------------- delivery's thread

    def wanted(self, stream: str) -> bool:
        watched = self._watched.get(stream)
        return watched is not None and bool(watched.zones)

    def observe(
        self, frame: Frame, seen: list[tuple[ObjectSnapshot, Shape]], tracked: set[int]
    ) -> dict[str, ZoneCounts] | UnsetType:
        """Count what is seen on a frame, tell what happened; the stream's counts, UNSET where it has no zones."""
        figures = [_seen_object(one, shape) for one, shape in seen if one.behind is None]
        with self._lock:
            watched = self._watched.get(frame.stream)
            if watched is None or not watched.zones:
                return UNSET
            changes = watched.zones.observe(frame, figures, tracked, loops=watched.source.config.loop)
            if changes:
                self._save(watched)
            counts = watched.zones.counts()
        labels = {one.id: one.label for one, _ in seen}
        for change in changes:
            self._events.of_stream(
                watched.source, change.name, change.frame, label=labels.get(change.object), **_details(change)
            )
        return counts

    # ------------------------------------------------------------------------------------------------ any thread

    def counts(self) -> dict[str, dict[str, ZoneCounts]]:
        """By stream and zone."""
        with self._lock:
            return {name: watched.zones.counts() for name, watched in self._watched.items()}

    def _save(self, watched: _Watched) -> None:
        if self._store is not None:
            self._store.save_zones(PutZones(_row(watched)))

    def _record(self, watched: _Watched, name: str) -> ZoneRecord:
        settings, counts = watched.zones.configs[name], watched.zones.counts()[name]
        return ZoneRecord(stream=watched.source.name, zone=name, settings=settings, counts=counts)


def _row(watched: _Watched) -> SavedZones:
    zones = watched.zones
    return SavedZones(watched.source.name, zones.configs, watched.configured, zones.states())


def _merged(saved: SavedZones, configured: Mapping[str, ZoneConfig]) -> dict[str, ZoneConfig]:
    """The zones as they were, with what the configuration says otherwise now than it did then."""
    zones = dict(saved.zones)
    for name in saved.configured.keys() | configured.keys():
        if saved.configured.get(name) == configured.get(name):
            continue
        if name in configured:
            zones[name] = configured[name]
        else:
            zones.pop(name, None)
    return zones


def _seen_object(one: ObjectSnapshot, shape: Shape) -> SeenObject:
    guess = one.guess.label if one.guess else None
    return SeenObject(one.id, one.revision, (one.label, guess), shape)


def _details(change: ZoneChange) -> dict[str, Any]:
    details = {"zone": change.zone, "object": change.object}
    if change.dwell_s is not None:
        details["dwell_s"] = round(change.dwell_s, 3)
    if change.direction is not None:
        details["direction"] = change.direction
    return details
