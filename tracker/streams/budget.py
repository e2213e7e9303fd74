"""What the past of all streams may take together."""

import threading
from weakref import WeakSet

from tracker.streams.buffer import RollingBuffer


class BufferBudget:
    """Bytes of pictures that the buffers of all streams hold together, whatever each of them is allowed.

    Where there are more, the buffer that holds most gives up its oldest frames: a client that asks for a large one
    takes nothing from streams that need little. The newest frame of each stream stays. Any thread may use it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._buffers: WeakSet[RollingBuffer] = WeakSet()
        self._lock = threading.Lock()

    def join(self, buffer: RollingBuffer) -> None:
        with self._lock:
            self._buffers.add(buffer)

    def settle(self) -> None:
        """Make room, where a frame was put into a buffer. Nobody who calls this holds a buffer's lock."""
        with self._lock:
            buffers = list(self._buffers)
            over_nbytes = sum(buffer.nbytes for buffer in buffers) - self._max_bytes
            while over_nbytes > 0 and buffers:
                largest = max(buffers, key=lambda buffer: buffer.nbytes)
                freed_nbytes = largest.give_up()
                over_nbytes -= freed_nbytes
                if not freed_nbytes:
                    buffers.remove(largest)
