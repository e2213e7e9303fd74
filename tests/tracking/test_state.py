"""The table of streams: the numbers of a stream that was removed, and how many such are remembered."""

from typing import Any, cast

from helpers.fakes import FakeStream
from tracker.protocol.fields import MAX_OBJECT
from tracker.tracking.state import MAX_GONE, Numbers, StreamTable, TrackedStream


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


def test_ids_that_were_given_elsewhere_stay_given_where_it_comes_back() -> None:
    table, stream = StreamTable(), stream_of("cam")
    table.go_on_beyond("cam", 0, 0, 500)
    table.add(stream)
    assert stream.claim_id(None) == 500
    table.remove(stream)
    table.go_on_beyond("cam", 0, 0, 1)
    again = stream_of("cam")
    table.add(again)
    assert again.claim_id(None) == 500


def test_only_the_streams_removed_last_are_remembered() -> None:
    table = StreamTable()
    for number in range(MAX_GONE + 1):
        table.go_on_from(f"cam{number}", Numbers(number))
    first, last = stream_of("cam0"), stream_of(f"cam{MAX_GONE}")
    for stream in (first, last):
        table.add(stream)
    assert (first.source.decoded, last.source.decoded) == (0, MAX_GONE)


def test_after_the_greatest_id_no_new_object_gets_one_in_use() -> None:
    stream = stream_of("cam")
    stream.first_object = MAX_OBJECT  # as after an object of that id elsewhere
    for taken in (MAX_OBJECT, 1):
        stream.used_ids.add(stream.claim_moved_id(taken))
    assert stream.claim_id(None) == 2
