"""The rolling buffer: both bounds, both ways to look up, and a file that waits for its consumer."""

import threading

import pytest

from helpers.videos import black
from tracker.errors import FrameGone, NoFrame
from tracker.images.types import Frame
from tracker.streams.budget import BufferBudget
from tracker.streams.buffer import RollingBuffer

IMAGE = black((4, 2))  # 12 bytes
SECOND_NS = 10**9


def frame(index: int, at_s: float | None = None, image=IMAGE) -> Frame:
    at_s = float(index) if at_s is None else at_s
    return Frame("cam", index, 0, at_s, 1000.0 + at_s, round(at_s * SECOND_NS), None, image)


def filled(count: int, seconds: float = 1e6, max_bytes: int = 10**9) -> RollingBuffer:
    buffer = RollingBuffer(seconds, max_bytes)
    for index in range(count):
        buffer.put(frame(index))
    return buffer


@pytest.mark.parametrize(
    ("seconds", "max_bytes", "kept"),
    [
        (1e6, 10**9, 10),
        (3.0, 10**9, 4),  # 6, 7, 8, 9: three seconds from first to last
        (0.5, 10**9, 1),
        (1e6, 60, 5),
        (1e6, 59, 4),
        (1e6, 1, 1),  # the newest stays, however big
        (2.0, 60, 3),
        (8.0, 36, 3),
    ],
)
def test_bounded_by_seconds_and_by_bytes(seconds, max_bytes, kept):
    buffer = filled(10, seconds, max_bytes)
    assert len(buffer) == kept
    assert [f.index for f in buffer.since(-1)] == list(range(10 - kept, 10))
    assert buffer.nbytes == 12 * kept
    assert buffer.seconds == kept - 1
    assert (buffer.oldest().index, buffer.newest().index) == (10 - kept, 9)


def test_a_big_picture_pushes_out_several_small_ones():
    buffer = filled(5, max_bytes=60)
    buffer.put(frame(5, image=black((8, 4))))
    assert [f.index for f in buffer.since(-1)] == [4, 5]
    assert buffer.nbytes == 60


def test_a_pinned_frame_stays_for_its_time():
    buffer = filled(3, seconds=3.0)
    buffer.pin(1, 6.0, now_ns=2 * SECOND_NS)
    for index in range(3, 8):
        buffer.put(frame(index))
    assert buffer.get(1).index == 1
    assert 1 in buffer
    assert [f.index for f in buffer.since(-1)] == [4, 5, 6, 7]
    assert buffer.nbytes == 12 * 5
    assert buffer.oldest().index == 4
    buffer.put(frame(8))
    with pytest.raises(FrameGone, match="frame: 1 is not in the buffer; there: 5 to 8"):
        buffer.get(1)
    assert buffer.nbytes == 12 * 4


def test_a_pin_is_of_a_frame_that_is_there():
    with pytest.raises(FrameGone, match="frame: 5 is not"):
        filled(10, seconds=3.0).pin(5, 60, now_ns=0)
    with pytest.raises(NoFrame):
        RollingBuffer(1, 1).pin(0, 60, now_ns=0)


def test_pins_are_bounded_in_bytes_and_lose_the_oldest():
    buffer = RollingBuffer(2.0, max_bytes=12 * 12)  # 12 pictures, 3 of them for pins
    for index in range(20):
        buffer.put(frame(index))
        buffer.pin(index, 1000, now_ns=0)
    assert [index for index in range(20) if index in buffer] == [14, 15, 16, 17, 18, 19]
    assert buffer.nbytes == 12 * 6


def test_one_pin_is_kept_however_small_the_buffer_is():
    buffer = RollingBuffer(1e6, max_bytes=1)
    for index in range(5):
        buffer.put(frame(index))
        buffer.pin(index, 1000, now_ns=0)
    assert [index for index in range(5) if index in buffer] == [3, 4]


def test_by_index():
    buffer = filled(10, seconds=3.0)
    assert buffer.get(7).index == 7
    for index in (5, 10, -1):
        with pytest.raises(FrameGone, match=f"frame: {index} is not in the buffer; there: 6 to 9"):
            buffer.get(index)


@pytest.mark.parametrize(
    ("after", "expected"), [(-1, [6, 7, 8, 9]), (5, [6, 7, 8, 9]), (7, [8, 9]), (9, []), (99, [])]
)
def test_since(after, expected):
    assert [f.index for f in filled(10, seconds=3.0).since(after)] == expected


@pytest.mark.parametrize(
    ("time", "expected"), [(1007.0, 7), (1007.4, 7), (1007.6, 8), (1005.1, 6), (1006.0, 6), (1009.9, 9), (1e12, 9)]
)
def test_by_time(time, expected):
    assert filled(10, seconds=3.0).nearest(time).index == expected


@pytest.mark.parametrize("time", [1004.9, 0.0, -1e12])
def test_a_time_before_the_buffer_is_gone(time):
    with pytest.raises(FrameGone, match=r"there: 1006\.000 to 1009\.000"):
        filled(10, seconds=3.0).nearest(time)


def test_nothing_decoded_yet():
    buffer = filled(0)
    for look in (buffer.newest, buffer.oldest, lambda: buffer.get(0), lambda: buffer.nearest(0.0)):
        with pytest.raises(NoFrame, match=r"^nothing was decoded"):
            look()
    assert buffer.since(-1) == []
    assert (len(buffer), buffer.nbytes, buffer.seconds) == (0, 0, 0.0)


def test_cleared_it_is_as_before_its_first_frame_and_goes_on():
    buffer = filled(5)
    buffer.pin(2, 60, 0)
    buffer.clear()
    assert (len(buffer), buffer.nbytes, buffer.since(-1), buffer.give_up(), 2 in buffer) == (0, 0, [], 0, False)
    with pytest.raises(NoFrame):
        buffer.newest()
    buffer.put(frame(5))
    assert (buffer.newest().index, buffer.nbytes) == (5, 12)


def test_indices_never_leap():
    buffer = filled(3)
    for index in (2, 4, 0):
        with pytest.raises(ValueError, match=f"frame {index} does not follow frame 2"):
            buffer.put(frame(index))
    assert len(buffer) == 3


def test_a_file_waits_until_its_frame_was_consumed():
    buffer = filled(2)
    went_on = threading.Event()
    waiting = threading.Thread(target=lambda: buffer.wait_consumed(1, lambda: False) and went_on.set())
    waiting.start()
    buffer.consumed(0)
    assert not went_on.wait(0.3)
    buffer.consumed(1)
    assert went_on.wait(10)
    waiting.join()
    buffer.consumed(0)  # an older one changes nothing
    assert buffer.wait_consumed(1, lambda: False)


def test_waiting_can_be_cancelled():
    cancelled = threading.Event()
    timer = threading.Timer(0.2, cancelled.set)
    timer.start()
    assert not filled(1).wait_consumed(0, cancelled.is_set)
    timer.join()


def test_readers_and_the_writer_at_once():
    buffer = RollingBuffer(50.0, 10**9)
    seen: list[list[int]] = []

    def read() -> None:
        last = -1
        while last < 1999:
            indices = [f.index for f in buffer.since(last)]
            seen.append(indices)
            last = indices[-1] if indices else last

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for index in range(2000):
        buffer.put(frame(index))
    for reader in readers:
        reader.join()
    assert all(indices == list(range(indices[0], indices[-1] + 1)) for indices in seen if indices)
    assert len(buffer) == 51


def sharing(max_bytes: int, *counts: int) -> list[RollingBuffer]:
    """Buffers with so many frames each, put in one after the other."""
    budget = BufferBudget(max_bytes)
    buffers = [RollingBuffer(1e6, 10**9) for _ in counts]
    for buffer, count in zip(buffers, counts, strict=True):
        budget.join(buffer)
        for index in range(count):
            buffer.put(frame(index))
            budget.settle()
    return buffers


@pytest.mark.parametrize(
    ("max_bytes", "counts", "kept"),
    [
        (12 * 10, (5, 5), [5, 5]),
        (12 * 10, (20, 2), [8, 2]),  # the larger one gives
        (12 * 10, (2, 20), [2, 8]),
        (12 * 10, (20, 20), [5, 5]),
        (1, (9, 9, 9), [1, 1, 1]),  # the newest stays
    ],
)
def test_all_buffers_are_bounded_together(max_bytes, counts, kept):
    assert [len(buffer) for buffer in sharing(max_bytes, *counts)] == kept


def test_a_pinned_frame_gives_way_to_other_streams():
    budget, buffer = BufferBudget(12 * 2), filled(5)
    budget.join(buffer)
    for index in (0, 3):
        buffer.pin(index, 1000, now_ns=0)
    budget.settle()
    assert [index for index in range(5) if index in buffer] == [3, 4]


def test_a_buffer_that_is_gone_counts_no_more():
    budget = BufferBudget(12 * 10)
    gone, stays = filled(9), filled(1)
    budget.join(gone)
    budget.join(stays)
    del gone
    for index in range(1, 10):
        stays.put(frame(index))
        budget.settle()
    assert len(stays) == 10
