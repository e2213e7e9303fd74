"""What the daemon does on request, one method per operation. All of it runs on the engine thread, between two
steps; everything is checked before anything changes."""

from collections.abc import Callable

from tracker.config import StreamConfig
from tracker.objects import Lane
from tracker.service.context import Context, Operations
from tracker.service.detections import DetectionOperations
from tracker.service.objects import ObjectOperations
from tracker.service.streams import StreamOperations


def operations(
    context: Context, attach: Callable[[str, StreamConfig], Lane], detach: Callable[[Lane], None]
) -> Operations:
    """The operations that this daemon serves, by name."""
    return {
        **StreamOperations(context, attach, detach).table,
        **ObjectOperations(context).table,
        **DetectionOperations(context).table,
    }
