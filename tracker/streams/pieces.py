"""Keyframes that FFmpeg's parser cuts in pieces, put together again: of H.264 from cameras.

Some cameras (and GStreamer with `config-interval=-1`) send parameter sets before every slice of a keyframe, and the
parser takes them for the start of a picture. A decoder that is given a piece shows the rest of it green; one that
is told to expect pieces (`chunks`) never gives a picture again once the last slice of one was lost on the way.
"""

import re
from typing import Any

import av

MAX_PIECES, MAX_BYTES = 256, 2**24  # that are kept of a keyframe: a hostile one never ends
_Packet = Any  # av.Packet[av.VideoStream], whose stubs know only streams of any kind
# A slice's header (types 1 and 5) up to the bit that says that it is the picture's first.
_SLICE = re.compile(rb"\x00\x00\x01[\x01\x05\x21\x25\x41\x45\x61\x65](.)", re.DOTALL)


class Joiner:
    """Takes packets and gives those to decode.

    Whether a piece is a keyframe's last shows only when the next picture begins. Not to be that late, a keyframe is
    taken for whole when it has as many pieces as any before it; so only the first one waits for the next picture.
    """

    def __init__(self) -> None:
        self._pieces: list[_Packet] = []  # of a keyframe that may go on
        self._count = 0  # its pieces, those that were given away included; 0: no keyframe
        self._most = 0  # pieces of any keyframe that came to its end
        self._pts: int | None = None

    def take(self, packet: _Packet) -> list[_Packet]:
        given = []
        if self._count and self._goes_on(packet):
            self._count += 1
        else:
            self._most = max(self._most, self._count)
            given = self._joined()
            self._count = int(packet.is_keyframe)
            self._pts = None
        if not self._count:
            return [*given, packet]
        self._pieces.append(packet)
        self._pts = packet.pts if self._pts is None else self._pts
        is_whole = 0 < self._most <= self._count
        return [*given, *self._joined()] if is_whole or self._is_full() else given

    def _is_full(self) -> bool:
        return len(self._pieces) >= MAX_PIECES or sum(piece.size for piece in self._pieces) >= MAX_BYTES

    def _goes_on(self, packet: _Packet) -> bool:
        """Whether the packet goes on with the keyframe: it begins with a slice that is no picture's first."""
        if None not in (packet.pts, self._pts) and packet.pts != self._pts:
            return False
        slice_ = _SLICE.search(bytes(packet))
        return slice_ is not None and slice_[1][0] < 0x80

    def _joined(self) -> list[_Packet]:
        """What was kept, as one packet."""
        pieces, self._pieces = self._pieces, []
        if len(pieces) < 2:
            return pieces
        whole = av.Packet(b"".join(map(bytes, pieces)))
        whole.stream, whole.time_base = pieces[0].stream, pieces[0].time_base
        whole.pts, whole.dts, whole.is_keyframe = self._pts, pieces[0].dts, True
        return [whole]
