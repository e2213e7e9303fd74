"""What every test gets: fixed seeds, few threads, and a check that it leaves nothing behind.

The check compares Python threads, child processes, descriptors and files of the working tree from before a test
with those after it, and waits a moment for what is just closing. Native pool threads (OpenMP, torch) are no
Python threads and stay for good, so they do not count.
"""

import gc
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Before torch is imported, and inherited by the daemons that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are slow beside other busy processes

import hypothesis
import numpy as np
import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 3.0
# Caches that git ignores, and what people write into while tests run.
IGNORED_FOLDERS = {"__pycache__", "node_modules", "out", "build", "dist"}
SOURCE_SUFFIXES = {".py", ".md", ".sh", ".toml", ".lock", ".orig"}

hypothesis.settings.register_profile("tracker", deadline=None, derandomize=True, database=None, print_blob=False)
hypothesis.settings.load_profile("tracker")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for marker, why_not in MISSING.items():
            if item.get_closest_marker(marker) and (reason := why_not()):
                item.add_marker(pytest.mark.skip(reason=reason))


@cache
def _no_gpu() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device here"


@cache
def _no_rtsp_server() -> str | None:
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        found = subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True).returncode == 0
    except OSError:
        found = False
    return None if found else "no GStreamer RTSP server here: tools/install --test-servers"


@cache
def _no_browser() -> str | None:
    found = any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome")))
    return None if found else "no Chromium on PATH"


MISSING = {"gpu": _no_gpu, "rtsp": _no_rtsp_server, "browser": _no_browser}


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:  # tests of the client stay without it
        torch = sys.modules["torch"]
        torch.manual_seed(0)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    with no_leaks():
        yield


@pytest.fixture(autouse=True, scope="session")
def session_leaves_nothing_behind() -> Iterator[None]:
    """The same for what fixtures of wider scope opened."""
    with no_leaks():
        yield


@contextmanager
def no_leaks(patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Fail with a list of what the block left open."""
    before = _open_things()
    yield
    deadline_s = time.monotonic() + patience_s
    while left := _open_things() - before:
        if time.monotonic() > deadline_s:
            pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)
        gc.collect()
        time.sleep(0.02)


def _open_things() -> set[str]:
    threads = {f"thread {t.name} {t.ident}" for t in threading.enumerate()}
    processes = {f"process {p.pid}" for p in psutil.Process().children(recursive=True)}
    return threads | processes | _descriptors() | _files()


def _descriptors() -> set[str]:
    found = set()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:  # the descriptor of this very listing
            continue
        if not target.startswith("/dev/"):
            found.add(f"descriptor {fd.name} -> {target}")
    return found


def _files() -> set[str]:
    found = set()
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [s for s in subfolders if s not in IGNORED_FOLDERS and not s.startswith(".")]
        found |= {f"file {Path(folder, n)}" for n in names if Path(n).suffix not in SOURCE_SUFFIXES}
    return found
