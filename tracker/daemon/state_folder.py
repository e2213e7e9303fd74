"""Opening the folder with what outlives a restart."""

import logging

from tracker.config import LooksConfig, PersistConfig
from tracker.registry.store import Store

log = logging.getLogger(__name__)


def open_store(config: PersistConfig, looks: LooksConfig | None = None) -> Store | None:
    """Lock and read the state folder. Raises ConfigError where another daemon has it."""
    folder = config.folder
    if folder is None:
        log.warning("nothing outlives a restart: neither persist.dir nor $STATE_DIRECTORY names a folder")
        return None
    store = Store(folder, config.history_days, round(config.history_mib * 2**20), looks)
    store.open()
    return store
