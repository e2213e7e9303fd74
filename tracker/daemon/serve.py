"""The daemon as a process of its own: what belongs to the process, and the signals that it obeys."""

import contextlib
import logging
import os
import resource
import signal
import sys
from pathlib import Path

import cv2

from tracker.daemon.checks import check
from tracker.daemon.daemon import Daemon
from tracker.daemon.state_folder import open_store
from tracker.daemon.systemd import Notifier
from tracker.engine.engine import Engine
from tracker.engine.models.build import load_model
from tracker.streams.stream import SWITCH_INTERVAL_S

log = logging.getLogger(__name__)


def serve(path: str | Path) -> None:
    """Run the daemon of a configuration file until SIGTERM or Ctrl-C. Raises ConfigError and ModelError."""
    config = check(path)
    _prepare_process()
    Notifier().status(f"loading {config.model.name}")
    store = open_store(config.persist, config.looks)
    engine = Engine(load_model(config.model), config.engine)
    engine.warm_up()
    daemon = Daemon(config, engine, store, abandon=_abandon, read_config=lambda: check(path))
    _obey_signals(daemon)
    daemon.run()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Python's last steps would be ended by it
    log.info("stopped")


def _prepare_process() -> None:
    # Decoding needs the interpreter between two calls of FFmpeg; at the default it waits 5 ms for a busy thread.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # OpenCV's own threads spin while they wait for each other, and take the cores from the model; what is given to
    # it here takes a millisecond.
    cv2.setNumThreads(1)
    _raise_descriptor_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to apply a new configuration to


def _obey_signals(daemon: Daemon) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())


def _raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets the process have: connections and sources need them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _abandon(_: str) -> None:
    """End at once, with an error: what hangs in FFmpeg or on the device does not come back."""
    logging.shutdown()
    os._exit(1)
