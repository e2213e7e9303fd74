"""What the daemon does on request, one method per operation. All of it runs on the engine thread, between two
steps; everything is checked before anything changes."""

from collections.abc import Callable
from typing import Any

from tracker.config import StreamConfig
from tracker.daemon.context import Context, Operations, SlowOperations
from tracker.daemon.operations.detections import DetectionOperations
from tracker.daemon.operations.objects import ObjectOperations
from tracker.daemon.operations.segment import SegmentOperations
from tracker.daemon.operations.streams import StreamOperations
from tracker.tracking.state import TrackedStream


def operations(
    context: Context,
    attach: Callable[[str, StreamConfig], TrackedStream],
    detach: Callable[[TrackedStream], None],
    cancel: Callable[[Any], None],
) -> tuple[Operations, SlowOperations]:
    """The operations by name: those that answer at once, and those that take many steps."""
    segment = SegmentOperations(context, cancel)
    at_once = {
        **StreamOperations(context, attach, detach).table,
        **ObjectOperations(context).table,
        **segment.table,
    }
    return at_once, {**segment.slow_table, **DetectionOperations(context).slow_table}
