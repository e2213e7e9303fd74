"""Replies that leave from the thread that writes the state: of past events, and of what jobs changed."""

from typing import Any

from msgspec import Struct

from tracker.daemon.persistence import Persistence
from tracker.errors import TrackerError, Unavailable
from tracker.protocol.messages import Event
from tracker.protocol.replies import EventList
from tracker.registry.database import HistoryQuery
from tracker.registry.store import Store
from tracker.sockets.request import Request
from tracker.tracking.jobs import Requester


class History:
    """`history.list`."""

    def __init__(self, store: Store | None) -> None:
        self._store = store

    def answer(self, request: Request) -> None:
        """Raises Unavailable where no history is kept."""
        if self._store is None:
            raise Unavailable("no history is kept: persist.dir is not set in the configuration")
        args = request.args
        query = HistoryQuery(args.stream, args.object, args.since, args.limit)

        def reply(events: list[Event] | None) -> None:
            if events is None:
                request.fail(Unavailable("the history cannot be read now; the daemon's log says why"))
            else:
                request.reply(EventList(events=events))

        self._store.history(query, reply)


class DurableRequest:
    """A long request whose result is on disk before it is told."""

    def __init__(self, request: Requester, persistence: Persistence) -> None:
        self.id: Any = request.id
        self.op = request.op
        self.owner = request.owner
        self._request = request
        self._persistence = persistence

    @property
    def gone(self) -> bool:
        return self._request.gone

    def reply(self, result: Struct) -> None:
        self._persistence.reply(self._request, result)

    def fail(self, error: TrackerError) -> None:
        self._request.fail(error)
