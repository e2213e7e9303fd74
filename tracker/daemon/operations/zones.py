"""`zones.*`: polygons and lines at which objects are counted."""

from tracker.daemon.answers import answers
from tracker.daemon.context import Context
from tracker.protocol import replies, requests
from tracker.protocol.operations import ZONES_LIST, ZONES_REMOVE, ZONES_SET


class ZoneOperations:
    def __init__(self, context: Context) -> None:
        self._table = context.table
        self._zones = context.zones
        self._persistence = context.persistence

    @answers(ZONES_SET)
    def zones_set(self, args: requests.ZonesSet) -> replies.ZoneRecord:
        stream = self._table.stream(args.stream)
        self._persistence.stream_changed(stream)  # so that the reply waits for the disk
        return self._zones.put(stream.name, args.zone, args.config(), stream.source.size_wh)

    @answers(ZONES_REMOVE)
    def zones_remove(self, args: requests.ZonesRemove) -> replies.ZoneRecord:
        stream = self._table.stream(args.stream)
        self._persistence.stream_changed(stream)
        return self._zones.remove(stream.name, args.zone)

    @answers(ZONES_LIST)
    def zones_list(self, args: requests.ZonesList) -> replies.ZoneList:
        if args.stream is not None:
            self._table.stream(args.stream)  # says what streams there are
        return replies.ZoneList(zones=self._zones.records(args.stream))
