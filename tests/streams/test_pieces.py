"""Pieces of keyframes by themselves: what is kept of one that never ends."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import pytest

from tracker.streams.pieces import MAX_BYTES, MAX_PIECES, Joiner

FIRST, LATER = b"\0\0\1\x65\x88", b"\0\0\1\x65\x40"  # slices: the first of a picture, and another


@pytest.fixture
def track() -> Iterator["av.VideoStream"]:
    with av.open(io.BytesIO(), "w", format="h264") as container:
        yield container.add_stream("libx264", rate=10)


def piece(track: "av.VideoStream", slice_: bytes, nbytes: int) -> Any:
    packet: Any = av.Packet(slice_.ljust(nbytes, b"\xff"))
    packet.stream, packet.time_base = track, Fraction(1, 90_000)
    packet.pts, packet.is_keyframe = 1, True
    return packet


@pytest.mark.parametrize("nbytes", [10, 2**20])
def test_a_keyframe_that_never_ends_is_given_away_in_bounded_parts(track: "av.VideoStream", nbytes: int) -> None:
    joiner = Joiner()
    joiner.take(piece(track, FIRST, nbytes))
    count = 2 * MAX_PIECES
    given = [packet for _ in range(count) for packet in joiner.take(piece(track, LATER, nbytes))]
    assert len(given) == (count + 1) * nbytes // min(MAX_PIECES * nbytes, MAX_BYTES)
    assert {packet.size for packet in given} == {min(MAX_PIECES * nbytes, MAX_BYTES)}
