"""Coverage-guided fuzzing of all that reads bytes of strangers; libFuzzer's options come after the folder of seeds.

    python fuzzing.py FOLDER -runs=100000

An input's first byte says who reads the rest. It ends with status 0 unless a reader raises what it does not
promise.
"""

import sys
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["tracker", "msgpack"]):
    from tracker.client.messages import Reader, read_result
    from tracker.errors import TrackerError
    from tracker.fleet.records import Claim, decoded
    from tracker.masks.rle import rle_decode
    from tracker.protocol.codec import ParsedRequest, encode, parse_request
    from tracker.protocol.operations import OPERATIONS
    from tracker.protocol.placement import where_of
    from tracker.protocol.replies import ObjectList


def request(data: bytes) -> None:
    """At the control socket."""
    outcome = parse_request([data], OPERATIONS)
    if isinstance(outcome, ParsedRequest):
        encode(outcome.args)
    else:
        outcome.error.message.encode()


def mask(data: bytes) -> None:
    """Compressed counts, in a request or a file."""
    try:
        mask_hw = rle_decode(data[2:], (data[0], data[1]) if len(data) > 1 else (1, 1))
    except ValueError:
        return
    assert mask_hw.shape == (data[0], data[1])


def message(data: bytes) -> None:
    """At a subscriber."""
    for topic in (b"tracks/cam1/", b"events/cam1/", b"status/", b"frames/cam1/640/"):
        _takes(lambda topic=topic: Reader().read([topic, data, b""]))  # type: ignore[misc]


def reply(data: bytes) -> None:
    """At a client."""
    _takes(lambda: read_result(data, ObjectList))


def record(data: bytes) -> None:
    """Out of a fleet's NATS."""
    decoded(data, Claim)
    where_of(data)


def _takes(read: Callable[[], object]) -> None:
    try:
        read()
    except TrackerError as error:
        error.message.encode()


READERS = [request, mask, message, reply, record]


def one_input(data: bytes) -> None:
    if data:
        READERS[data[0] % len(READERS)](data[1:])


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
