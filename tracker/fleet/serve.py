"""Runs a box: its daemon's link, and what goes on beside its streams."""

import contextlib

from tracker.fleet.box import Box
from tracker.fleet.daemon_link import DaemonLink
from tracker.fleet.settings import BoxConfig


async def serve(config: BoxConfig) -> None:
    """Until it is cancelled. Raises ConfigError."""
    daemon = DaemonLink(config.daemon.control, config.daemon.key, config.mirror)
    with contextlib.closing(daemon):
        await Box(config, daemon).run()
