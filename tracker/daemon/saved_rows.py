"""State of streams and objects as the rows that are written of it."""

import time

from tracker.config import StreamConfig
from tracker.registry.rows import SavedObject, SavedStream
from tracker.streams.urls import redacted
from tracker.tracking.state import TrackedObject, TrackedStream

FRAMES_AHEAD = 2**16  # numbers reserved; the next ones once half of them are used
EPOCHS_AHEAD = 64


class StreamRows:
    """Rows of streams. Frame numbers are reserved ahead, so that none is given twice whatever ends the process."""

    def __init__(self) -> None:
        self._reserved: dict[str, tuple[int, int]] = {}  # frames and epochs, of each stream

    def runs_short(self, stream: TrackedStream) -> bool:
        """Whether half of the numbers that were written down last are used."""
        frames, epochs = self._reserved.get(stream.name, (0, 0))
        source = stream.source
        return source.decoded + FRAMES_AHEAD // 2 > frames or source.epoch + EPOCHS_AHEAD // 2 > epochs

    def row(self, stream: TrackedStream, configured: StreamConfig | None, *, ahead: bool = True) -> SavedStream:
        """A stream's row, `configured` being what the daemon's configuration says of it; without `ahead` with its
        exact numbers."""
        source = stream.source
        frames = source.decoded + (FRAMES_AHEAD if ahead else 0)
        epochs = source.epoch + (EPOCHS_AHEAD if ahead else 0)
        if ahead:
            self._reserved[stream.name] = frames, epochs
        else:  # it ends, or is removed: what comes back under its name is written down anew
            self._reserved.pop(stream.name, None)
        return SavedStream(
            name=stream.name,
            config=_added_at_run_time(source.config, configured),
            next_frame=frames,
            epoch=epochs,
            used_ids=stream.used_ids.ranges,
            paused=source.state == "paused",
            first_object=stream.first_object,
        )


def _added_at_run_time(config: StreamConfig, configured: StreamConfig | None) -> StreamConfig | None:
    """The configuration of a stream that was added at run time; None where its URL has credentials in it, which
    are not written down."""
    if configured == config or redacted(config.url) != config.url:
        return None
    return config


def object_row(obj: TrackedObject) -> SavedObject:
    """An object's row; its memory goes beside it."""
    lost_for_s = None if obj.lost_since_ns is None else (time.monotonic_ns() - obj.lost_since_ns) / 1e9
    return SavedObject(
        stream=obj.stream.name,
        id=obj.id,
        frame=obj.frame,
        size_wh=obj.size_wh,
        label=obj.label,
        meta=obj.meta,
        expire_s=obj.expire_s,
        age=obj.age,
        lost_for_s=lost_for_s,
    )
