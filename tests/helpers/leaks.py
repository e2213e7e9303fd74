"""What a test leaves behind: Python threads, child processes, descriptors, files of the working tree.

They are compared from before a test and after it, and what is just closing is waited for. Native pool threads
(OpenMP, torch) are no Python threads and stay for good, so they do not count.
"""

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 3.0
# Caches that git ignores, and what people write into while tests run.
IGNORED_FOLDERS = {"__pycache__", "node_modules", "out", "build", "dist"}
SOURCE_SUFFIXES = {".py", ".md", ".sh", ".toml", ".lock", ".orig"}


def open_things() -> set[str]:
    threads = {f"thread {t.name} {t.ident}" for t in threading.enumerate()}
    processes = {f"process {p.pid}" for p in psutil.Process().children(recursive=True)}
    return threads | processes | _descriptors()


@contextmanager
def no_leaks(patience_s: float = PATIENCE_S, things: Callable[[], set[str]] = open_things) -> Iterator[None]:
    """Fail with a list of what the block left."""
    before = things()
    yield
    deadline_s = time.monotonic() + patience_s
    while left := things() - before:
        if time.monotonic() > deadline_s:
            pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)
        gc.collect()
        time.sleep(0.02)


def _descriptors() -> set[str]:
    """But the standard ones, which pytest points elsewhere and back while it captures."""
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        if fd.name in ("0", "1", "2"):
            continue
        try:
            target = str(fd.readlink())
        except OSError:  # the descriptor of this very listing
            continue
        if not target.startswith("/dev/"):
            found.add(f"descriptor {fd.name} -> {target}")
    return found


def files() -> set[str]:
    """Of the working tree."""
    found = set()
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [s for s in subfolders if s not in IGNORED_FOLDERS and not s.startswith(".")]
        found |= {f"file {Path(folder, n)}" for n in names if Path(n).suffix not in SOURCE_SUFFIXES}
    return found
