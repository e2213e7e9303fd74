"""When a video's pictures are shown."""


class Times:
    """Takes what is said of one picture after the other, in ticks, and gives the tick at which it is shown.

    AVI numbers packets in the order of decoding alone. What FFmpeg makes of that for pictures goes back and forth
    where there are B-frames, so that the times of decoding are taken from then on; as FFmpeg's own tools do
    (`guess_correct_pts` in libavcodec/decode.c), whose choice PyAV does not hand out.
    """

    def __init__(self) -> None:
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0  # how often it did not rise

    def take(self, pts: int | None, dts: int | None, duration: int) -> int | None:
        """None where nothing tells."""
        if dts is None and self._faulty_pts > self._faulty_dts and self._last_dts is not None:
            dts = self._last_dts + max(1, duration)  # the decoder held it back until the file had ended
        self._faulty_pts += _does_not_rise(self._last_pts, pts)
        self._faulty_dts += _does_not_rise(self._last_dts, dts)
        self._last_pts = pts if pts is not None else dts
        self._last_dts = dts if dts is not None else pts
        if dts is None or self._faulty_pts <= self._faulty_dts:
            return self._last_pts
        return dts


def _does_not_rise(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now <= before
