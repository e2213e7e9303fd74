"""The daemon's two sockets as its configuration has them."""

from collections.abc import Callable, Collection

from tracker.config import Config
from tracker.sockets.access import guard_of
from tracker.sockets.control import ControlServer
from tracker.sockets.publisher import Publisher
from tracker.sockets.request import Request


def publisher_of(config: Config, instance: str) -> Publisher:
    guard = guard_of(config, "publish")
    return Publisher(config.publish.endpoint, config.publish.send_hwm, instance, config.limits, guard)


def control_server_of(
    config: Config, handle: Callable[[Request], None], served: Collection[str], instance: str
) -> ControlServer:
    guard = guard_of(config, "control")
    return ControlServer(config.control.endpoint, handle, served, instance, config.limits, guard)
