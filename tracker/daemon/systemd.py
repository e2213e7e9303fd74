"""sd_notify: what systemd is told over the socket that it names. Without one, nothing is sent.

Only the main loop reports progress, so the watchdog is fed by what tracking does, and by nothing else.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping

MAX_STATUS_CHARS = 500


class Notifier:
    """One datagram a message, never waited for."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._fed_s = 0.0
        self._feed_every_s = watchdog_s(environment) / 4

    def ready(self) -> None:
        """Serving, or serving again after `reloading`."""
        self._send("READY=1")

    def reloading(self) -> None:
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=stopping")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        line = "".join(c if c.isprintable() else " " for c in text)[:MAX_STATUS_CHARS]
        if line != self._status:
            self._status = line
            self._send(f"STATUS={line}")

    def progress(self) -> None:
        """The main loop goes on."""
        now_s = time.monotonic()
        if self._feed_every_s and now_s - self._fed_s >= self._feed_every_s:
            self._fed_s = now_s
            self._send("WATCHDOG=1")

    def _send(self, *fields: str) -> None:
        if not self._address:
            return
        message = "\n".join(fields).encode()
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        # A service manager that is busy or gone must not hold up tracking.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as notify:
            notify.sendto(message, socket.MSG_DONTWAIT, self._address)


def watchdog_s(environment: Mapping[str, str]) -> float:
    """The longest pause between two signs of life that systemd accepts; 0: it does not watch this process."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return 0.0
    return int(usec) / 1e6
