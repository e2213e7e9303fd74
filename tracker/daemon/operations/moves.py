"""`objects.export` and `objects.import`: one object from this daemon to another, in chunks."""

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, structs

from tracker.daemon.admission import admit
from tracker.daemon.answers import answers
from tracker.daemon.context import Context
from tracker.daemon.saved_rows import object_row
from tracker.errors import BadRequest, TransferGone
from tracker.protocol import object_requests, records, replies
from tracker.protocol.fields import MAX_CHUNK_BYTES, MAX_TRANSFERS
from tracker.protocol.operations import OBJECTS_EXPORT, OBJECTS_IMPORT
from tracker.registry import memories
from tracker.registry.rows import SavedObject

TRANSFER_S = 60.0  # after which what is not done is forgotten


_ExportKey = tuple[str, int, str]  # stream, object, token
_ImportKey = tuple[str, int, bytes]  # stream, bytes in all, record


@dataclass(slots=True, eq=False)
class _Transfer:
    record: records.MovedObject
    data: bytearray
    began_s: float = field(default_factory=time.monotonic)


class MoveOperations:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._exports: OrderedDict[_ExportKey, _Transfer] = OrderedDict()
        self._imports: OrderedDict[_ImportKey, _Transfer] = OrderedDict()

    @answers(OBJECTS_EXPORT)
    def objects_export(self, args: object_requests.ObjectsExport) -> replies.ExportedChunk:
        """The memory as it is at the first chunk; `token` names it for the further ones, up to the last.

        One that was read makes room at once, so that it never costs one that is still read.
        """
        _forget_old(self._exports)
        if args.token is None and args.offset:
            raise BadRequest("offset: the first chunk begins at 0; further ones need its token")
        token = args.token or self._begin_export(args)
        key = args.stream, args.object, token
        transfer = self._exports.get(key)
        if transfer is None:
            raise TransferGone("token: no such export of this object is at hand; begin again without a token")
        data = bytes(transfer.data[args.offset : args.offset + MAX_CHUNK_BYTES])
        if not data:
            raise BadRequest(f"offset: the memory has {len(transfer.data)} bytes")
        if args.offset + len(data) == len(transfer.data):
            del self._exports[key]
        return replies.ExportedChunk(
            token=token, record=transfer.record, size=len(transfer.data), offset=args.offset, data=data
        )

    def _begin_export(self, args: object_requests.ObjectsExport) -> str:
        obj = self._context.table.stream(args.stream).object(args.object)
        data = memories.dumps(memories.slim(obj.memory), self._context.persistence.model)
        row = structs.asdict(object_row(obj))
        del row["stream"]
        token = secrets.token_hex(8)
        record = records.MovedObject(object=row.pop("id"), **row)
        self._exports[args.stream, args.object, token] = _Transfer(record, bytearray(data))
        return token

    @answers(OBJECTS_IMPORT)
    def objects_import(self, args: object_requests.ObjectsImport) -> replies.Imported:
        """The last chunk begins to track the object; everything is checked before."""
        stream = self._context.table.stream(args.stream)
        object_id = args.record.object
        self._check_size(args)
        _forget_old(self._imports)
        if args.offset == 0:
            stream.claim_moved_id(object_id)
            admit(self._context, stream, 1, "object")
            self._begin_import(args)
        transfer = self._continued(args)
        transfer.data += args.data
        received = len(transfer.data)
        if received < args.size:
            return replies.Imported(stream=stream.name, received=received, object=None, durable=UNSET)
        del self._imports[_import_key(args)]
        self._start(args, bytes(transfer.data))
        return replies.Imported(stream=stream.name, received=received, object=object_id)

    def _check_size(self, args: object_requests.ObjectsImport) -> None:
        limit = memories.max_bytes(self._context.engine.memory_layout())
        if args.size > limit:
            raise BadRequest(f"size: no memory of this model takes more than {limit} bytes")

    def _begin_import(self, args: object_requests.ObjectsImport) -> None:
        """Afresh, where one of this object was under way."""
        key = _import_key(args)
        self._imports.pop(key, None)
        self._imports[key] = _Transfer(args.record, bytearray())
        _forget_old(self._imports)

    def _continued(self, args: object_requests.ObjectsImport) -> _Transfer:
        """The transfer that the chunk goes on with. Raises TransferGone where it does not follow."""
        transfer = self._imports.get(_import_key(args))
        if transfer is None or args.offset != len(transfer.data):
            raise TransferGone("offset: the chunk follows none that came with this record; begin again at 0")
        if args.offset + len(args.data) > args.size:
            raise BadRequest(f"data: reaches over the size of {args.size} bytes")
        return transfer

    def _start(self, args: object_requests.ObjectsImport, data: bytes) -> None:
        """Raises BadRequest for a memory that is not one of this model."""
        stream, engine, record = self._context.table.stream(args.stream), self._context.engine, args.record
        most = self._context.config.engine.conditioning_frames
        memory = memories.loads(data, self._context.persistence.model, engine.memory_layout(), most)
        memories.refuse_far_counts(memory)
        last = max(entry.frame for entry in (*memory.past, *memory.ahead))
        if last >= stream.source.decoded:
            raise BadRequest(
                f"record: the memory is of frame {last}, and stream {stream.name!r} has not come there; add it "
                f"with first_frame: {last + 1} or more"
            )
        stream.claim_moved_id(record.object)
        admit(self._context, stream, 1, "object")
        fields = structs.asdict(record) | {"frame": memory.past[-1].frame}
        saved = SavedObject(stream=stream.name, id=fields.pop("object"), **fields)
        device = str(engine.describe()["device"])
        obj = self._context.objects.restore(
            stream, saved, memories.moved(memory, device), memories.last_mask(memory), "object was imported"
        )
        self._context.persistence.object_added(obj)


def _import_key(args: object_requests.ObjectsImport) -> _ImportKey:
    """Who sends another object under the same number, or another state of it, does not disturb the first."""
    return args.stream, args.size, msgspec.msgpack.encode(args.record)


def _forget_old(transfers: OrderedDict[_ExportKey, _Transfer] | OrderedDict[_ImportKey, _Transfer]) -> None:
    while transfers:
        oldest = next(iter(transfers.values()))
        if len(transfers) <= MAX_TRANSFERS and time.monotonic() - oldest.began_s < TRANSFER_S:
            return
        transfers.popitem(last=False)
