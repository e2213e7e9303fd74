"""Processes that begin with torch loaded, which costs each process of its own seconds.

They are forked from one process that has loaded the daemon's modules and done nothing else: no threads, no model.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from types import TracebackType
from typing import Any

from tracker.cli import start

_FORKING = multiprocessing.get_context("forkserver")


@contextmanager
def forking() -> Iterator[None]:
    """While processes may be started, here and nowhere else."""
    _FORKING.set_forkserver_preload(["tracker.daemon.serve", "tracker.cli.trackerd"])
    forkserver.ensure_running()
    try:
        yield
    finally:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


class Forked:
    """A function in a process of its own: as much of `subprocess.Popen` as tests need.

    It writes to the end of `log`, and has the environment of the tests and more.
    """

    def __init__(self, run: Callable[..., None], *arguments: Any, log: Path, cwd: Path, **environment: str) -> None:
        surroundings = {**os.environ, **environment}
        self._process = _FORKING.Process(target=_run, args=(run, arguments, log, cwd, surroundings))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode if self.returncode is not None else self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Seconds. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self._process.join(timeout)
            code = self._process.exitcode
            if code is None:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            self.returncode = code
            self._process.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Forked":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.wait()


def command(module: str, *arguments: str) -> None:
    """A command line with the `main` of a module, for `Forked`."""
    sys.argv = [module, *arguments]
    start.run(module)


def _run(
    run: Callable[..., None], arguments: tuple[Any, ...], log: Path, cwd: Path, surroundings: dict[str, str]
) -> None:
    with log.open("ab") as written:
        for standard in (1, 2):
            os.dup2(written.fileno(), standard)
    os.environ.clear()
    os.environ.update(surroundings)
    os.chdir(cwd)
    run(*arguments)
