"""Room for objects: overload is refused at the door, not noticed in the frame rates."""

from tracker.daemon.context import Context
from tracker.errors import AtCapacity
from tracker.tracking.state import TrackedStream


def free_slots(context: Context, stream: TrackedStream) -> int:
    """Number of objects that the stream can still get."""
    free = max(0, context.config.engine.max_objects - context.table.object_count())
    if all(other.source.config.min_fps == 0 for other in context.table):
        return free
    return next((n for n in range(free) if _pushed_under(context, stream, n + 1)), free)


def admit(context: Context, stream: TrackedStream, count: int, what: str) -> None:
    """Raises AtCapacity where the stream has no room for `count` more; `what` names the field that asks."""
    limit = context.config.engine.max_objects
    free = limit - context.table.object_count()
    if count > free:
        raise AtCapacity(f"{what}: {count} more, but {free} of {limit} objects (engine.max_objects) are free")
    slow = _pushed_under(context, stream, count)
    if slow is not None:
        raise AtCapacity(
            f"{what}: {count} more would push stream {slow.name!r} under its min_fps of "
            f"{slow.source.config.min_fps:g}; there is room for {free_slots(context, stream)}"
        )


def _pushed_under(context: Context, stream: TrackedStream, count: int) -> TrackedStream | None:
    """A stream that would be slower than its `min_fps` with `count` more objects on `stream`."""
    objects = {other: len(other.objects) + (count if other is stream else 0) for other in context.table}
    seconds = _round_s(context, list(objects.values()))
    return next((o for o, n in objects.items() if n and o.source.config.min_fps * seconds > 1.001), None)


def _round_s(context: Context, objects_n: list[int]) -> float:
    """Seconds until every stream with objects had a frame."""
    cost = context.engine.cost
    if context.engine.streams_per_batch is None:
        return cost.seconds(sum(objects_n))
    return sum(cost.seconds(n) for n in objects_n if n)
