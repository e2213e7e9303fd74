"""What the daemon does on request, one method per operation. All of it runs on the engine thread, between two
steps; everything is checked before anything changes."""

from collections.abc import Callable
from typing import Any

from tracker.config import StreamConfig
from tracker.objects import Lane
from tracker.service.context import Context, Operations, SlowOperations
from tracker.service.detections import DetectionOperations
from tracker.service.objects import ObjectOperations
from tracker.service.segment import SegmentOperations
from tracker.service.streams import StreamOperations


def operations(
    context: Context,
    attach: Callable[[str, StreamConfig], Lane],
    detach: Callable[[Lane], None],
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
