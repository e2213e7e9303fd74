"""`trackerd` with a fault of its device: `python -m faults_runs.faulty_daemon FAULT serve -c FILE`."""

import itertools
import sys
import time
from typing import Any

from tracker.cli.trackerd import main
from tracker.daemon import watch
from tracker.engine.engine import Engine
from tracker.errors import AtCapacity

OUT_OF_MEMORY_EVERY = 50  # steps
HANGS_AT = 100
PATIENCE_S = 5.0  # of the main loop's watch, which waits a minute otherwise


def _out_of_memory(step: int) -> None:
    if step % OUT_OF_MEMORY_EVERY == 0:
        raise AtCapacity("out of device memory")


def _hang(step: int) -> None:
    while step >= HANGS_AT:
        time.sleep(1)


def _break(fault: str) -> None:
    plain, steps = Engine.propagate, itertools.count(1)
    act = {"out_of_memory": _out_of_memory, "hang": _hang}[fault]

    def propagate(self: Engine, *args: Any) -> Any:
        act(next(steps))
        return plain(self, *args)

    Engine.propagate = propagate  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    _break(sys.argv.pop(1))
    watch.PATIENCE_S["main"] = PATIENCE_S
    main()
