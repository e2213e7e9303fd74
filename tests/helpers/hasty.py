"""`trackerd` in a process that has its modules already, and waits less where no test measures that."""

from importlib import import_module
from pathlib import Path

from helpers.fleets import ONE_THREAD, Words
from helpers.preloaded import Forked, command

HASTE = {
    "tracker.fleet.child.NICE": 0,
    "tracker.fleet.tenure.REFUSED_S": 1.0,
    "tracker.fleet.worker.RETRY_S": 0.1,
    "tracker.fleet.worker.CHILD_IDLE_S": 1.0,
}


def forked(words: Words, log: Path) -> Forked:
    return Forked(_hastily, *map(str, words), log=log, cwd=log.parent, **ONE_THREAD)


def _hastily(*words: str) -> None:
    if words[0] == "fleet":
        for name, value in HASTE.items():
            module, _, constant = name.rpartition(".")
            setattr(import_module(module), constant, value)
    command("tracker.cli.trackerd", *words)
