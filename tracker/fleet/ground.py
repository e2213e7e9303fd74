"""What all leases of a box stand on."""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    on_served: Callable[[str, str | None, int], None]  # stream, why it is not, and the revision of its settings
    turns: Turns = field(default_factory=Turns)
