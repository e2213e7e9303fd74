"""Threads that the system knows by their names: `top -H` and /proc show which part of the daemon works."""

import contextlib
import threading
from pathlib import Path


class NamedThread(threading.Thread):
    """A thread whose name, as far as its first 15 bytes, is the system's name for it too."""

    def run(self) -> None:
        with contextlib.suppress(OSError):  # a locked-down /proc costs the name, not the thread
            Path("/proc/thread-self/comm").write_bytes(self.name.encode()[:15])
        super().run()
