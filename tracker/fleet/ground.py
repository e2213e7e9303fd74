"""What all leases of a box stand on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from nats.aio.client import Client as Nats

from tracker.fleet.buckets import Buckets
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.serving import Turns


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    nats: Nats
    buckets: Buckets
    daemon: Daemon
    box: str
    control: str  # endpoints and key that readers are told
    publish: Callable[[], str]
    key: str | None
    founded: Callable[[], datetime]  # the fleet, in this NATS
    is_in_the_fleet: Callable[[], bool]  # as far as NATS says: what is not there was lost, or removed
    on_served: Callable[[str, str | None, int], None]  # stream, why it is not, and the revision of its settings
    turns: Turns = field(default_factory=Turns)
