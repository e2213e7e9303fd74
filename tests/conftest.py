"""What every test gets: fixed seeds, few threads, and a check that it leaves nothing behind."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

# Before torch is imported, and inherited by the daemons that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are slow beside other busy processes

import hypothesis
import numpy as np
import pytest

from helpers.leaks import files, no_leaks
from helpers.preloaded import forking

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

    if not torch.cuda.is_available():
        return "no CUDA device here"
    torch.zeros(1, device="cuda")  # CUDA's own threads and descriptors are there before a test, and stay
    return None


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
    return None if found else "no Chromium on PATH: tools/install --test-browser"


@cache
def _no_nats_server() -> str | None:
    return None if shutil.which("nats-server") else "no nats-server on PATH: tools/install --test-servers"


MISSING = {"gpu": _no_gpu, "rtsp": _no_rtsp_server, "browser": _no_browser, "nats": _no_nats_server}


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


@pytest.fixture(autouse=True, scope="module")
def leaves_no_files_behind() -> Iterator[None]:
    """Looked for once a module, since a look through the working tree takes a while."""
    with no_leaks(things=files):
        yield


@pytest.fixture(autouse=True, scope="session")
def session_leaves_nothing_behind() -> Iterator[None]:
    """The same for what fixtures of wider scope opened."""
    with no_leaks():
        yield


@pytest.fixture(scope="session")
def preloaded() -> Iterator[None]:
    """For tests that start daemons: `helpers.preloaded`."""
    with forking():
        yield
