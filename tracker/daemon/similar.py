"""`search.similar` and `watch.*`: the query is made on the main loop, the answer leaves from the looks' thread."""

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tracker.daemon.context import Context, frame_of
from tracker.daemon.looks import APPEARANCE, LookMemory, LookTask, failed_by, look_of
from tracker.engine.memory import ObjectMemory
from tracker.errors import AtCapacity, BadRequest, NoObject, TooLarge, UnknownObject
from tracker.images.stills import decode_still
from tracker.protocol import replies, requests
from tracker.protocol.operations import SEARCH_SIMILAR, WATCH_ADD, WATCH_LIST, WATCH_REMOVE
from tracker.protocol.prompts import prompt_of
from tracker.registry.rows import DropWatchedLook, PutWatchedLook
from tracker.registry.similar import Look, LookHit, LookQuery, WatchedLook
from tracker.sockets.request import Request
from tracker.types import Frame, Rgb

MAX_PICTURE_PIXELS = 4 * 2**20  # of an uploaded one
MAX_WATCHED = 256

Found = Callable[[list[bytes], bytes], None]  # given vectors and a thumbnail, in the looks' thread


class Similar:
    """Answers requests that the looks' thread finishes."""

    def __init__(self, context: Context, memory: LookMemory) -> None:
        self._context = context
        self._memory = memory
        self._answers = {
            SEARCH_SIMILAR.name: self._search,
            WATCH_ADD.name: self._watch,
            WATCH_LIST.name: self._list,
            WATCH_REMOVE.name: self._remove,
        }
        self.names = set(self._answers)

    def answer(self, request: Request) -> None:
        """Raises TrackerError for what can be refused at once."""
        self._answers[request.op](request)

    def _search(self, request: Request) -> None:
        args: requests.SearchSimilar = request.args
        but = (args.stream, args.object) if args.stream is not None and args.object is not None else None

        def search(vectors: list[bytes], _: bytes) -> None:
            query = LookQuery(
                APPEARANCE,
                self._memory.model,
                vectors,
                args.limit,
                args.on,
                args.since,
                args.until,
                args.label,
                but=but,
            )
            hits, left_out = self._memory.find(query)
            request.reply(replies.SimilarFound(hits=[_hit(hit) for hit in hits], left_out=left_out))

        self._with_look(request, args, search)

    def _watch(self, request: Request) -> None:
        args: requests.WatchAdd = request.args
        if len(self._memory.watched()) >= MAX_WATCHED:
            raise AtCapacity(f"{MAX_WATCHED} looks are waited for; remove one first")

        def watch(vectors: list[bytes], thumbnail: bytes) -> None:
            number = 1 + max((watched.id for watched in self._memory.watched()), default=0)
            about = number, args.name, args.threshold, time.time(), APPEARANCE, self._memory.model
            watched = WatchedLook(*about, thumbnail, _mean(vectors))
            self._memory.watch(watched)
            store = self._context.persistence.store
            if store is None:
                request.reply(_record(watched, durable=False))
            else:
                store.write([PutWatchedLook(watched)], lambda ok: request.reply(_record(watched, durable=ok)))

        self._with_look(request, args, watch)

    def _list(self, request: Request) -> None:
        request.reply(replies.WatchList(watched=[_record(w, durable=True) for w in self._memory.watched()]))

    def _remove(self, request: Request) -> None:
        watched = self._memory.unwatch(request.args.watch)
        if watched is None:
            known = ", ".join(str(w.id) for w in self._memory.watched()) or "none"
            raise UnknownObject(f"watch: no watched look has the number {request.args.watch}; there: {known}")
        store = self._context.persistence.store
        if store is None:
            request.reply(_record(watched, durable=False))
        else:
            store.write([DropWatchedLook(watched.id)], lambda ok: request.reply(_record(watched, durable=ok)))

    def _with_look(self, request: Request, args: requests.LookMarks, then: Found) -> None:
        """Find the vectors that a request means, and go on in the looks' thread."""
        if args.object is not None:
            stream, object_id = str(args.stream), args.object

            def work() -> None:
                vectors = self._memory.vectors_of(stream, object_id)
                if not vectors:
                    raise UnknownObject(f"object: no look of {object_id} of stream {stream!r} is kept (yet)")
                then([vector.tobytes() for vector in vectors], b"")

        else:
            task = self._task(args)

            def work() -> None:
                look = look_of(task, APPEARANCE, self._memory.model)
                if look is None:
                    raise NoObject("the marks gave an empty mask; draw a box around the object itself")
                then([look.vector], look.thumbnail)

        if not self._memory.ask(failed_by(request.fail, work)):
            raise AtCapacity("too much waits for the memory of looks; ask again in a moment")

    def _task(self, args: requests.LookMarks) -> LookTask:
        """Mark what is meant, in one step of the model."""
        engine = self._context.engine
        if args.picture is not None:
            frame = _picture(args.picture)
            features = engine.encode([frame.image])
        else:
            frame = frame_of(self._context.table.stream(str(args.stream)), args.frame)
            features = self._context.features(frame)
        prompt = prompt_of(args, frame.size_wh)
        _, mask = engine.prompt(ObjectMemory(), features, 0, frame.index, prompt, frame.size_wh)
        return LookTask(("", 0), None, frame, mask, engine.look(features, 0, mask.logits_hw > 0))


def _picture(data: bytes) -> Frame:
    """An uploaded picture, as if it were a frame. Raises BadRequest, TooLarge."""
    try:
        rgb_hwc = decode_still(io.BytesIO(data), MAX_PICTURE_PIXELS)
    except OverflowError as error:
        raise TooLarge(f"picture: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise BadRequest(f"picture: is no picture that can be read: {error}") from None
    return Frame("", 0, 0, None, time.time(), 0, None, Rgb(rgb_hwc))


def _mean(vectors: list[bytes]) -> bytes:
    """Of length 1."""
    mean_c = np.mean([np.frombuffer(vector, np.float32) for vector in vectors], axis=0)
    return np.asarray(mean_c / np.linalg.norm(mean_c), np.float32).tobytes()


def _hit(hit: LookHit) -> replies.SimilarHit:
    look: Look = hit.look
    return replies.SimilarHit(
        stream=look.stream,
        object=look.object,
        frame=look.frame,
        time=look.time,
        box=look.box,
        label=look.label,
        score=round(hit.score, 4),
        thumbnail=look.thumbnail,
        kind=look.kind,
    )


def _record(watched: WatchedLook, **more: Any) -> replies.WatchRecord:
    return replies.WatchRecord(
        watch=watched.id,
        name=watched.name,
        threshold=watched.threshold,
        time=watched.time,
        thumbnail=watched.thumbnail,
        **more,
    )
