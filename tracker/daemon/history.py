"""Replies that leave from the thread that writes the state: of past events, and of what jobs changed."""

from typing import Any

from msgspec import Struct

from tracker.daemon.persistence import Persistence
from tracker.errors import TrackerError, Unavailable, UnknownStream
from tracker.protocol.messages import Event
from tracker.protocol.replies import EventList
from tracker.registry.database import HistoryQuery
from tracker.registry.store import Store
from tracker.sockets.request import Request
from tracker.tracking.jobs import Requester
from tracker.tracking.state import StreamTable


class History:
    """`history.list`. A stream that is gone has a history; one that never was is refused, as everywhere."""

    def __init__(self, store: Store | None, table: StreamTable) -> None:
        self._store = store
        self._table = table

    def answer(self, request: Request) -> None:
        """Raises Unavailable where no history is kept."""
        if self._store is None:
            raise Unavailable("no history is kept: persist.dir is not set in the configuration")
        args = request.args
        query = HistoryQuery(args.stream, args.object, args.since, args.limit)
        unheard_of = self._unheard_of(args.stream)

        def reply(events: list[Event] | None) -> None:
            if events is None:
                request.fail(Unavailable("the history cannot be read now; the daemon's log says why"))
            elif unheard_of is not None and not events:
                request.fail(unheard_of)
            else:
                request.reply(EventList(events=events))

        self._store.history(query, reply)

    def _unheard_of(self, name: str | None) -> UnknownStream | None:
        """The refusal of a stream of which only old events may tell."""
        if name is not None:
            try:
                self._table.refuse_unheard_of("stream", name)
            except UnknownStream as error:
                return error
        return None


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
