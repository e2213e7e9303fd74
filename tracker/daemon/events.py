"""The one place that records events: each is published, kept as history and counted."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tracker.errors import AtCapacity
from tracker.protocol.fields import EventName
from tracker.protocol.messages import Event
from tracker.sockets.publisher import Publisher
from tracker.streams.stream import Stream
from tracker.threads import Failures
from tracker.tracking.state import TrackedObject

MAX_NOTES = 16  # programs beside the daemon that have something to say
Listener = Callable[[TrackedObject, EventName], None]
NO_HISTORY: set[EventName] = {"segment_progress"}  # of no interest once it is over


class Events:
    """Any thread may record. `keep` takes what belongs to the history."""

    def __init__(self, publisher: Publisher, keep: Callable[[Event], None] | None, failures: Failures) -> None:
        self._publisher = publisher
        self._keep = keep
        self._failures = failures
        self.listeners: dict[str, Listener] = {}  # by their work; told what happens to objects
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self.notes: dict[str, str] = {}  # what programs beside the daemon say, by their names

    def of_stream(self, source: Stream, name: EventName, frame: int | None, **more: Any) -> None:
        """Something happened to a stream; `more` are the fields that go with it."""
        self._record(
            Event(
                event=name,
                stream=source.name,
                frame=frame,
                epoch=source.epoch,
                time=time.time(),
                owner=source.owner,
                **more,
            )
        )

    def of_object(self, obj: TrackedObject, name: EventName, frame: int, **more: Any) -> None:
        self.of_stream(obj.stream.source, name, frame, object=obj.id, label=obj.label, **more)
        for work, listener in self.listeners.items():
            with self._failures.spared(work):
                listener(obj, name)

    def note(self, name: str, message: str | None) -> bool:
        """Keep what a program beside the daemon says; returns whether that is new. Raises AtCapacity."""
        before = self.notes.get(name)
        if message is None:
            self.notes.pop(name, None)
        elif name not in self.notes and len(self.notes) >= MAX_NOTES:
            raise AtCapacity(f"name: {MAX_NOTES} programs have a note here already: {', '.join(self.notes)}")
        else:
            self.notes[name] = message
        return before != message

    def counts(self) -> dict[str, int]:
        """Number of events of each name."""
        with self._lock:
            return dict(self._counts)

    def _record(self, event: Event) -> None:
        with self._lock:
            self._counts[event.event] += 1
        self._publisher.publish(f"events/{event.stream}/", event)
        if self._keep is not None and event.event not in NO_HISTORY:
            self._keep(event)
