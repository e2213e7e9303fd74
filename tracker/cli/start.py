"""The start of every command: Ctrl-C ends it without a traceback, while its modules load and after.

    python -m tracker.cli.start MODULE ARGUMENTS...     the `main` of a module: so start the executables in `tools/`

Loading takes up to seconds, and an exception raised inside of it can come out of a library as something else.
So until `main` runs, the signal ends the process by itself. This module imports nothing that takes time.
"""

import os
import signal
import sys
from importlib import import_module

ENDED_BY_CTRL_C = 128 + signal.SIGINT  # as a shell counts it


def trackerd() -> None:
    """The console script."""
    # Read when numpy is loaded, whose products are small beside the model's: a second thread of its own spins while
    # it waits for a core that the model has.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["serve"]:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `serve` has it once its modules are loaded
    run("tracker.cli.trackerd")


def trackctl() -> None:
    """The console script."""
    run("tracker.cli.trackctl")


def run(module: str) -> None:
    """Load a module and run its `main`, whose result is the exit status."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = import_module(module).main
    signal.signal(signal.SIGINT, handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(ENDED_BY_CTRL_C)


if __name__ == "__main__":
    run(sys.argv.pop(1))
