"""`trackerd` with a fault of its device or of one of its threads: `python -m faults_runs.faulty_daemon FAULT serve
-c FILE`."""

import itertools
import sys
import time
from functools import partial
from typing import Any

from tracker.cli.trackerd import main
from tracker.daemon import watch
from tracker.daemon.lifecycle import ObjectLifecycle
from tracker.daemon.zones import Zones
from tracker.engine.engine import Engine
from tracker.errors import AtCapacity
from tracker.protocol import codec
from tracker.registry.store import Store
from tracker.sockets.publisher import Publisher

OUT_OF_MEMORY_EVERY = 50  # steps
HANGS_AT = 100
RAISES_AT = 50
THREADS = ("main", "control", "publish", "delivery", "registry", "watch")
PATIENCE_S = 5.0  # of the main loop's watch, which waits a minute otherwise


def _out_of_memory(step: int) -> None:
    if step % OUT_OF_MEMORY_EVERY == 0:
        raise AtCapacity("out of device memory")


def _hang(step: int) -> None:
    while step >= HANGS_AT:
        time.sleep(1)


def _raise(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug of its own")


def _raise_in(thread: str, step: int) -> None:
    """From then on, whatever the thread does raises."""
    if step == RAISES_AT:
        where, what = {
            "main": (ObjectLifecycle, "expire"),
            "control": (codec, "parse_request"),
            "publish": (Publisher, "_send"),
            "delivery": (Zones, "wanted"),
            "registry": (Store, "_write_looks"),
            "watch": (watch, "resident_bytes"),
        }[thread]
        setattr(where, what, _raise)


def _break(fault: str) -> None:
    plain, steps = Engine.propagate, itertools.count(1)
    acts = {"out_of_memory": _out_of_memory, "hang": _hang}
    acts |= {f"raise_in_{thread}": partial(_raise_in, thread) for thread in THREADS}
    act = acts[fault]

    def propagate(self: Engine, *args: Any) -> Any:
        act(next(steps))
        return plain(self, *args)

    Engine.propagate = propagate  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _break(sys.argv.pop(1))
    watch.PATIENCE_S["main"] = PATIENCE_S
    main()
