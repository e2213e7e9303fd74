"""The folder with what outlives a restart: where it is, and opening it."""

import logging
import os
from pathlib import Path

from tracker.config import LooksConfig, PersistConfig
from tracker.registry.store import Store

log = logging.getLogger(__name__)


def state_folder(config: PersistConfig) -> Path | None:
    """The folder for the state: `persist.dir`, else the folder that systemd gives the service."""
    if config.dir is not None:
        return Path(config.dir).expanduser()
    given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given) if given else None


def open_store(config: PersistConfig, looks: LooksConfig | None = None) -> Store | None:
    """Lock and read the state folder. Raises ConfigError where another daemon has it."""
    folder = state_folder(config)
    if folder is None:
        log.warning("nothing outlives a restart: neither persist.dir nor $STATE_DIRECTORY names a folder")
        return None
    store = Store(folder, config.history_days, round(config.history_mib * 2**20), looks)
    store.open()
    return store
