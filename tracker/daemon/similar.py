"""`search.similar` and `watch.*`: the query is made on the main loop, the answer leaves from the looks' thread."""

import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from tracker.daemon.context import Context, frame_of
from tracker.daemon.looks.look import APPEARANCE, CLIP, LookTask, appearance_of, seen
from tracker.daemon.looks.memory import LookMemory, failed_by
from tracker.engine.memory import ObjectMemory
from tracker.errors import AtCapacity, BadRequest, NoObject, TooLarge, Unavailable, UnknownObject
from tracker.images.stills import decode_still
from tracker.images.types import Frame, Rgb
from tracker.labels.waiting import Vector
from tracker.protocol import look_replies, look_requests
from tracker.protocol.operations import SEARCH_SIMILAR, WATCH_ADD, WATCH_LIST, WATCH_REMOVE
from tracker.protocol.prompts import prompt_of
from tracker.registry.rows import DropWatchedLook, PutWatchedLook
from tracker.registry.similar import Look, LookHit, LookQuery, WatchedLook
from tracker.sockets.request import Request

MAX_PICTURE_PIXELS = 4 * 2**20  # of an uploaded one
MAX_WATCHED = 256

NO_TEXTS = {
    "off": "words cannot be searched for: that takes CLIP, a model that compares words with pictures, and the "
    "daemon has none. Name one in its configuration file (labels.model, for one clip-vit-base-patch32) "
    "and start it again",
    "loading": "CLIP, which compares words with pictures, is still being loaded; ask again in a moment",
    "failed": "words cannot be searched for: CLIP, which compares them with pictures, could not be loaded; "
    "the daemon's log says why",
}

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
        args: look_requests.SearchSimilar = request.args
        if args.on is not None:
            self._context.table.refuse_unheard_of("on", args.on)
        if args.text is not None:
            self._search_text(request, args.text)
            return

        def search(vectors: list[bytes], _: bytes) -> None:
            self._reply_found(request, APPEARANCE, self._memory.model, vectors)

        self._with_look(request, args, search)

    def _search_text(self, request: Request, text: str) -> None:
        """CLIP makes a vector of the text in its own thread; the search is the looks' thread's as ever."""
        clip = self._memory.clip
        if clip.state != "ready":
            raise Unavailable(NO_TEXTS[clip.state])

        def search(found: Vector | None) -> None:
            if found is None:
                request.fail(Unavailable("CLIP could not read the text; the daemon's log says why"))
                return
            vectors = [found.vector_c.tobytes()]
            self._later(request, lambda: self._reply_found(request, CLIP, found.model, vectors))

        if not clip.embed(text, search):
            raise AtCapacity("too much waits for CLIP; ask again in a moment")

    def _reply_found(self, request: Request, kind: str, model: str, vectors: list[bytes]) -> None:
        """The looks' thread's."""
        args: look_requests.SearchSimilar = request.args
        itself = (args.stream, args.object) if args.stream is not None and args.object is not None else None
        filters = args.limit, args.on, args.since, args.until, args.label
        hits, left_out = self._memory.reader.find(LookQuery(kind, model, vectors, *filters, but=itself))
        request.reply(look_replies.SimilarFound(hits=[_hit(hit) for hit in hits], left_out=left_out))

    def _watch(self, request: Request) -> None:
        args: look_requests.WatchAdd = request.args
        if len(self._memory.watched.all()) >= MAX_WATCHED:
            raise AtCapacity(f"{MAX_WATCHED} looks are waited for; remove one first")

        def watch(vectors: list[bytes], thumbnail: bytes) -> None:
            number = self._memory.watched.next_id()
            about = number, args.name, args.threshold, time.time(), APPEARANCE, self._memory.model
            watched = WatchedLook(*about, thumbnail, _mean(vectors))
            self._memory.watched.add(watched)
            store = self._context.persistence.store
            if store is None:
                request.reply(_record(watched, durable=False))
            else:
                store.write([PutWatchedLook(watched)], lambda ok: request.reply(_record(watched, durable=ok)))

        self._with_look(request, args, watch)

    def _list(self, request: Request) -> None:
        request.reply(
            look_replies.WatchList(watched=[_record(w, durable=True) for w in self._memory.watched.all()])
        )

    def _remove(self, request: Request) -> None:
        watched = self._memory.watched.remove(request.args.watch)
        if watched is None:
            known = ", ".join(str(w.id) for w in self._memory.watched.all()) or "none"
            raise UnknownObject(f"watch: no watched look has the number {request.args.watch}; there: {known}")
        store = self._context.persistence.store
        if store is None:
            request.reply(_record(watched, durable=False))
        else:
            store.write([DropWatchedLook(watched.id)], lambda ok: request.reply(_record(watched, durable=ok)))

    def _with_look(self, request: Request, args: look_requests.LookMarks, then: Found) -> None:
        """Find the vectors that a request means, and go on in the looks' thread."""
        if args.object is not None:
            stream, object_id = str(args.stream), args.object

            def work() -> None:
                vectors, thumbnail = self._memory.looks_of(stream, object_id)
                if not vectors:
                    raise UnknownObject(f"object: no look of {object_id} of stream {stream!r} is kept (yet)")
                then([vector.tobytes() for vector in vectors], thumbnail)

        else:
            task = self._task(args)

            def work() -> None:
                pixels = seen(task)
                if pixels is None:
                    raise NoObject("the marks gave an empty mask; draw a box around the object itself")
                look = appearance_of(task, pixels, self._memory.model)
                then([look.vector], look.thumbnail)

        self._later(request, work)

    def _later(self, request: Request, work: Callable[[], None]) -> None:
        """Have it done in the looks' thread."""
        if not self._memory.ask(failed_by(request.fail, work)):
            request.fail(AtCapacity("too much waits for the memory of looks; ask again in a moment"))

    def _task(self, args: look_requests.LookMarks) -> LookTask:
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
        raise BadRequest(f"picture: is not a picture that can be read: {error}") from None
    return Frame("", 0, 0, None, time.time(), 0, None, Rgb(rgb_hwc))


def _mean(vectors: list[bytes]) -> bytes:
    """The mean direction, of length 1."""
    mean_c = np.mean([np.frombuffer(vector, np.float32) for vector in vectors], axis=0)
    return np.asarray(mean_c / np.linalg.norm(mean_c), np.float32).tobytes()


def _hit(hit: LookHit) -> look_replies.SimilarHit:
    look: Look = hit.look
    return look_replies.SimilarHit(
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


def _record(watched: WatchedLook, **more: Any) -> look_replies.WatchRecord:
    return look_replies.WatchRecord(
        watch=watched.id,
        name=watched.name,
        threshold=watched.threshold,
        time=watched.time,
        thumbnail=watched.thumbnail,
        **more,
    )
