"""The table of streams: the numbers of a stream that was removed, and how many such are remembered."""

from typing import Any, cast

from helpers.fakes import FakeStream
from tracker.tracking.ids import UsedIds
from tracker.tracking.state import MAX_GONE, StreamTable, TrackedStream


def stream_of(name: str) -> TrackedStream:
    source = FakeStream(name)
    return TrackedStream(cast(Any, source))


def test_a_stream_that_comes_back_goes_on_counting() -> None:
    table, stream = StreamTable(), stream_of("cam")
    table.add(stream)
    cast(Any, stream.source).decoded = 7
    table.remove(stream)
    again = stream_of("cam")
    table.add(again)
    assert (again.source.decoded, again.processed) == (7, 6)


def test_only_the_streams_removed_last_are_remembered() -> None:
    table = StreamTable()
    for number in range(MAX_GONE + 1):
        table.go_on_from(f"cam{number}", number, 0, UsedIds())
    first, last = stream_of("cam0"), stream_of(f"cam{MAX_GONE}")
    for stream in (first, last):
        table.add(stream)
    assert (first.source.decoded, last.source.decoded) == (0, MAX_GONE)
