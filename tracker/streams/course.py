"""What is wanted of a stream, what it is doing, and what it says of that."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from tracker.protocol.fields import StreamState

Wish = Literal["run", "pause", "rest", "stop"]  # rest: after an end or a failure, until somebody resumes it

BACK_OFF_S = (0.25, 10.0)  # the first wait before trying again, doubled up to the last
STEADY_S = 2.0  # a connection that gave pictures for so long is worth a quick try when it breaks

log = logging.getLogger(__name__)


class Course:
    """Every change of a stream's state goes through `enter`, which says it once: in the log, and by `tell(event,
    details)` where there is an event. `changed` guards it, and whatever belongs to a change."""

    def __init__(self, name: str, tell: Callable[[str, dict[str, Any]], None]) -> None:
        self.changed = threading.Condition()
        self.state: StreamState = "connecting"
        self.error: str | None = None  # why it is not live; None while it is
        self.wish: Wish = "run"
        self._name = name
        self._tell = tell
        self._back_off_s = BACK_OFF_S[0]
        self._live_since_s = 0.0  # by the monotonic clock: this connection's first picture

    def pause(self) -> None:
        with self.changed:
            if self.wish in ("run", "rest"):
                self.wish = "pause"
                self.enter("paused", "stream_paused")

    def resume(self) -> None:
        with self.changed:
            if self.wish in ("pause", "rest"):
                self.wish = "run"
                self._back_off_s = BACK_OFF_S[0]
                self.enter("connecting")

    def stop(self) -> None:
        with self.changed:
            self.wish = "stop"
            self.changed.notify_all()

    def came(self) -> None:
        """A picture came: the stream lives."""
        now_s = time.monotonic()
        if self.state == "connecting":
            self._live_since_s = now_s
        if now_s - self._live_since_s >= STEADY_S:
            self._back_off_s = BACK_OFF_S[0]
        if self.state in ("connecting", "stalled"):
            self.error = None
            self.enter("live", "stream_live")

    def ended(self) -> None:
        with self.changed:
            if self.wish == "run":
                self.wish = "rest"
                self.enter("ended", "stream_ended")

    def failed(self, text: str, *, hopeless: bool) -> None:
        """After a fault: wait and try again, or rest where that is of no use."""
        with self.changed:
            if self.wish != "run":
                return
            is_news = text != self.error
            self.error = text
            if hopeless:
                self.wish = "rest"
                self.enter("failed", "stream_failed", error=text)
                return
            self.enter("connecting", "stream_down" if is_news else None, error=text)
        self.wait_until(time.monotonic_ns() + round(self._next_back_off_s() * 1e9))

    def stalled(self, silent_s: float) -> None:
        self.error = f"no frame for {silent_s:.1f} s"
        self.enter("stalled", "stream_stalled", error=self.error)

    def enter(self, state: StreamState, event: str | None = None, **details: Any) -> None:
        """Change the state, and say so."""
        is_news = state != self.state or event is not None
        self.state = state
        self.changed.notify_all()
        if is_news:
            self._log(state, details.get("error"))
        if event:
            self._tell(event, details)

    def wait_while(self, *wishes: Wish) -> bool:
        """Block while one of `wishes` holds. Returns whether to run now."""
        with self.changed:
            self.changed.wait_for(lambda: self.wish not in wishes)
            return self.wish == "run"

    def wait_until(self, due_ns: int) -> None:
        """Block until then, or until something else than running is wanted."""
        with self.changed:
            left_s = (due_ns - time.monotonic_ns()) / 1e9
            if left_s > 0:
                self.changed.wait_for(lambda: self.wish != "run", left_s)

    def why_empty(self) -> str:
        """Why there is no frame."""
        return self.state if self.error is None else f"{self.state}: {self.error}"

    def _next_back_off_s(self) -> float:
        """Twice as long each time; short again once pictures have come for a while: a camera that breaks after each
        first one is not asked for it four times a second."""
        wait_s, self._back_off_s = self._back_off_s, min(BACK_OFF_S[1], 2 * self._back_off_s)
        return wait_s

    def _log(self, state: StreamState, error: str | None) -> None:
        level = logging.INFO if error is None else logging.WARNING
        log.log(level, "stream %s: %s%s", self._name, state, "" if error is None else f": {error}")
