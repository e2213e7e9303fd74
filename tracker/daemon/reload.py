"""A new configuration while the daemon runs: streams are added, removed and changed, the others are not touched.

What cannot change without a new start keeps its old value, and the log says so.
"""

import logging
from collections.abc import Callable, Iterator

import msgspec
from msgspec import structs

from tracker.config import Config
from tracker.daemon.context import Context
from tracker.daemon.stream_keeper import StreamKeeper
from tracker.daemon.systemd import Notifier
from tracker.errors import ConfigError

log = logging.getLogger(__name__)

AT_RUN_TIME = {"streams", "control.allow_sources", "control.allow_credentials", "log.level"}


class Reloader:
    """It belongs to the main loop; `ask` is safe in a signal handler."""

    def __init__(
        self, context: Context, keeper: StreamKeeper, notifier: Notifier, read: Callable[[], Config] | None
    ) -> None:
        """`read` gives the configuration as it is now, or raises ConfigError; None: there is no file to read."""
        self._context = context
        self._keeper = keeper
        self._notifier = notifier
        self._read = read
        self._asked = False
        self.problem: str | None = None  # why the last try changed nothing

    @property
    def applied(self) -> bool:
        """Whether the file was right when it was read last."""
        return self.problem is None

    def ask(self) -> None:
        self._asked = self._read is not None

    def tick(self) -> None:
        """Reload if that was asked for; systemd is told when it begins and ends."""
        if not self._asked:
            return
        self._asked = False
        self._notifier.reloading()
        try:
            self._reload()
        except Exception:  # a configuration that cannot be applied ends nobody's tracking
            log.exception("the configuration could not be applied as a whole")
        self._notifier.ready()

    def _reload(self) -> None:
        """Apply what the file says now, or nothing of it."""
        assert self._read is not None
        try:
            config = self._read()
        except ConfigError as error:
            self.problem = error.problems[0]
            for problem in error.problems:
                log.error("the configuration stays as it was: %s", problem)
            return
        self.problem = None
        for key in keys_for_next_start(self._context.config, config):
            log.warning("%s has changed in the configuration; that takes effect at the next start", key)
        self._apply(config)

    def _apply(self, config: Config) -> None:
        table, before = self._context.table, self._context.config
        removed = [name for name in before.streams if name not in config.streams and name in table]
        for name in removed:
            stream = table.stream(name)
            # Of another configuration it is a client's, who removed the operator's stream and added an own one.
            if stream.source.config == before.streams[name]:
                self._keeper.set_aside(stream)
        self._context.reconfigure(with_run_time_changes(before, config))
        added = [name for name in config.streams if name not in table]
        changed = [name for name in config.streams if name in table and self._differs(name, config)]
        for name in added:
            self._keeper.attach(name, config.streams[name], playlists=True)
        for name in changed:
            self._keeper.change(table.stream(name), config.streams[name])
        logging.getLogger().setLevel(config.log.level.upper())
        log.info("configuration read again: added %s, removed %s, changed %s", added, removed, changed)

    def _differs(self, name: str, config: Config) -> bool:
        return self._context.table.stream(name).source.config != config.streams[name]


def with_run_time_changes(before: Config, after: Config) -> Config:
    """`before` with what may change while the daemon runs."""
    control = structs.replace(
        before.control,
        allow_sources=after.control.allow_sources,
        allow_credentials=after.control.allow_credentials,
    )
    log_config = structs.replace(before.log, level=after.log.level)
    return structs.replace(before, control=control, log=log_config, streams=after.streams)


def keys_for_next_start(before: Config, after: Config) -> Iterator[str]:
    """The keys that differ, and that only a new start can change."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    for section in old:
        if section in AT_RUN_TIME:
            continue
        for key in old[section]:
            path = f"{section}.{key}"
            if old[section][key] != new[section][key] and path not in AT_RUN_TIME:
                yield path
