"""The daemon's operations, one method each. All of it runs on the main loop, between two steps of
the model; everything is checked before anything changes."""

from collections.abc import Callable
from typing import Any

from tracker.config import StreamConfig
from tracker.daemon.answers import Answers, answers_of
from tracker.daemon.context import Context
from tracker.daemon.operations.detections import DetectionOperations
from tracker.daemon.operations.moves import MoveOperations
from tracker.daemon.operations.objects import ObjectOperations
from tracker.daemon.operations.segment import SegmentOperations
from tracker.daemon.operations.streams import StreamOperations
from tracker.daemon.operations.zones import ZoneOperations
from tracker.tracking.state import TrackedStream


def operations(
    context: Context,
    attach: Callable[[str, StreamConfig, str | None], TrackedStream],
    detach: Callable[[TrackedStream], None],
    cancel: Callable[[Any], None],
) -> Answers:
    return answers_of(
        StreamOperations(context, attach, detach),
        ObjectOperations(context),
        DetectionOperations(context),
        MoveOperations(context),
        SegmentOperations(context, cancel),
        ZoneOperations(context),
    )
