"""Streams attached, changed and detached while everything else goes on. It belongs to the main loop."""

import time
from collections.abc import Callable
from typing import Any, cast

from msgspec import UNSET, structs

from tracker.config import StreamConfig
from tracker.daemon.context import Context
from tracker.daemon.restore import Restorer
from tracker.daemon.watch import memory_bound
from tracker.protocol.fields import EventName
from tracker.streams.allowlist import allowed
from tracker.streams.budget import BufferBudget
from tracker.streams.stream import Stream
from tracker.tracking.state import TrackedStream

STOP_S = 1.0  # for the streams to end; one that blocks inside FFmpeg dies with the process
WITHOUT_REOPENING = {
    "priority",
    "min_fps",
    "labels",
    "discover",
    "zones",
}  # fields of a stream that is read as it is


class StreamKeeper:
    """The one place that starts and stops streams' threads.

    `wake` is called for every frame, by these threads; `closed(name)` when a stream is gone.
    """

    def __init__(
        self, context: Context, restorer: Restorer, wake: Callable[[], None], closed: Callable[[str], None]
    ) -> None:
        self._context = context
        self._table = context.table
        self._persistence = context.persistence
        self._restorer = restorer
        self._wake = wake
        self._closed = closed
        # The other half is the model's, and what frames take on their way.
        self._budget = BufferBudget(memory_bound(context.config.limits.memory_mib) // 2)

    def start(self) -> None:
        """Open what is configured, and what was added before a restart."""
        for name, config, paused in self._restorer.streams():
            self.attach(name, config, playlists=name in self._context.config.streams, paused=paused)

    def stop(self) -> None:
        for stream in self._table:
            stream.source.stop(timeout_s=0)
        deadline_s = time.monotonic() + STOP_S
        for stream in self._table:
            stream.source.stop(max(0.0, deadline_s - time.monotonic()))

    def attach(
        self,
        name: str,
        config: StreamConfig,
        owner: str | None = None,
        *,
        playlists: bool = False,
        paused: bool = False,
    ) -> TrackedStream:
        """`playlists`: the operator's own streams may name any files and hosts; a client's what is admitted.
        `paused`: it begins so, and its first row says so."""
        stream = TrackedStream(self._source(name, config, playlists))
        stream.source.owner = UNSET if owner is None else owner
        self._table.add(stream)
        self._context.zones.attach(stream.source)
        self._persistence.stream_added(stream)
        self._publish_event(stream.source, "stream_added")
        if paused:
            stream.source.pause()
        self._restorer.bring_back(stream)
        self._persistence.write_then(stream.source.start)  # its frames' numbers are reserved first
        return stream

    def detach(self, stream: TrackedStream) -> None:
        """Remove a stream, and forget its objects."""
        self._persistence.stream_removed(stream)
        self._context.zones.forget(stream.name)
        self._close(stream)

    def set_aside(self, stream: TrackedStream) -> None:
        """A stream that is no longer configured: its objects wait for it, as they would after a restart."""
        self._persistence.stream_set_aside(stream)
        self._context.zones.set_aside(stream.name)
        self._close(stream)

    def change(self, stream: TrackedStream, config: StreamConfig) -> None:
        """Give a configured stream its new configuration. Objects and numbers stay; the source is opened again only
        where it has to be, as after a camera's return."""
        source = stream.source
        changed = changed_fields(source.config, config)
        if changed <= WITHOUT_REOPENING:
            source.config = config
        else:
            self._reopen(stream, config)
        self._context.zones.attach(stream.source)
        self._persistence.stream_changed(stream)
        self._publish_event(stream.source, "stream_changed", message=", ".join(sorted(changed)))

    def tell_all(self, name: EventName, message: str | None = None) -> None:
        """An event of the daemon's own, on every stream."""
        more = {} if message is None else {"message": message}
        for stream in self._table:
            self._publish_event(stream.source, name, **more)

    def _reopen(self, stream: TrackedStream, config: StreamConfig) -> None:
        before = stream.source
        paused = before.state == "paused"
        before.stop(timeout_s=0)  # it numbers no frame from here on
        before.buffer.clear()
        source = self._source(stream.name, config, playlists=True)
        source.go_on_from(before.decoded, before.epoch)
        source.take_counts(before)
        stream.source = source
        stream.processed = source.decoded - 1
        self._context.objects.settle(stream)  # the past that some were led through is gone
        if paused:
            source.pause()
        source.start()

    def _close(self, stream: TrackedStream) -> None:
        self._table.remove(stream)
        stream.source.stop(timeout_s=0)  # it ends by itself, at the latest with its time-out
        stream.source.buffer.clear()
        self._publish_event(stream.source, "stream_removed")
        self._closed(stream.name)

    def _source(self, name: str, config: StreamConfig, playlists: bool) -> Stream:
        admitted = None if playlists else self._admitted
        wake, told = lambda _: self._wake(), self._on_stream_event
        return Stream(name, config, wake, told, admitted=admitted, budget=self._budget)

    def _admitted(self, url: str) -> bool:
        """Whether a client may have it opened; called by the streams' threads."""
        return allowed(url, self._context.config.control.allow_sources)

    def _on_stream_event(self, source: Stream, name: str, details: dict[str, Any]) -> None:
        """Called by the streams' threads."""
        more = {"message": details["error"]} if "error" in details else {}
        if "size" in details:
            more["size"] = tuple(details["size"])
        self._publish_event(source, cast(EventName, name), **more)

    def _publish_event(self, source: Stream, name: EventName, **more: Any) -> None:
        """Publish an event of a stream, from any thread."""
        self._context.events.of_stream(source, name, source.decoded - 1 if source.decoded else None, **more)


def changed_fields(before: StreamConfig, after: StreamConfig) -> set[str]:
    old, new = structs.asdict(before), structs.asdict(after)
    return {name for name in old if old[name] != new[name]}
