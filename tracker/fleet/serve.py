"""Runs a box: its daemon's link, and what goes on beside its streams."""

import contextlib

from tracker.fleet.box import Box
from tracker.fleet.daemon_link import DaemonLink
from tracker.fleet.metrics import serving
from tracker.fleet.settings import BoxConfig


async def serve(config: BoxConfig) -> None:
    """Until it is cancelled. Raises ConfigError."""
    daemon = DaemonLink(config.daemon.control, config.daemon.key, config.mirror)
    box = Box(config, daemon)
    with contextlib.closing(daemon), serving(config.metrics.endpoint, box.figures):
        await box.run()
