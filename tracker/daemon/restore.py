"""Going on after a restart: streams that were added, and objects under their old ids, from their memories.

An object whose stream is not there waits for it. One whose memory is of another model is prompted again with its
last mask, on the first frame that comes. What cannot be followed at all waits too, and an event says why.
"""

import logging
from collections import deque
from collections.abc import Iterator

from tracker.config import StreamConfig
from tracker.daemon.context import Context
from tracker.engine.memory import ObjectMemory
from tracker.errors import BadRequest, TrackerError
from tracker.masks.geometry import mask_of
from tracker.masks.types import ObjectMask
from tracker.protocol.prompt import Prompt
from tracker.registry import memories
from tracker.registry.memories import OtherModel
from tracker.registry.rows import KeptObject
from tracker.streams.allowlist import refusal
from tracker.tracking.ids import UsedIds
from tracker.tracking.state import Numbers, TrackedStream

log = logging.getLogger(__name__)


class Restorer:
    """It belongs to the main loop."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._persistence = context.persistence
        self._to_prompt: deque[tuple[TrackedStream, KeptObject, ObjectMask]] = deque()
        if self._persistence.store is None:
            return
        saved = self._persistence.store.saved
        self._persistence.waiting = {kept.saved.key: kept for kept in saved.objects}
        # What was removed is forgotten first, and of that the oldest.
        streams = sorted(saved.streams, key=lambda stream: (not stream.removed, stream.removed_at))
        self._persistence.gone = {stream.name: stream for stream in streams}
        self._persistence.forget_oldest()
        for stream in streams:
            used_ids = UsedIds.of(stream.used_ids)
            numbers = Numbers(stream.next_frame, stream.epoch, used_ids, stream.first_object)
            context.table.go_on_from(stream.name, numbers)

    def streams(self) -> Iterator[tuple[str, StreamConfig, bool]]:
        """Streams to open, and whether each was paused: all that are configured, and those that were added and are
        still allowed."""
        configured = self._context.config.streams
        was_paused = {name for name, saved in self._persistence.gone.items() if saved.paused and not saved.removed}
        for name, config in configured.items():
            yield name, config, name in was_paused
        for name, saved in list(self._persistence.gone.items()):
            if name in configured or saved.removed:
                continue
            if (why_not := self._why_not(saved.config)) is not None:
                log.warning("stream %s is not opened again, and its objects wait for it: %s", name, why_not)
            elif saved.config is not None:
                yield name, saved.config, name in was_paused

    def bring_back(self, stream: TrackedStream) -> None:
        """The objects that wait for a stream, which was opened just now."""
        for kept in [kept for key, kept in self._persistence.waiting.items() if key[0] == stream.name]:
            try:
                self._bring_back(stream, kept)
            except OtherModel as error:
                self._prompt_later(stream, kept, str(error))
            except (TrackerError, OSError) as error:
                self._wait(stream, kept, str(error))

    def tick(self) -> None:
        """Prompt what is to be prompted again, one object a call, where there is a picture."""
        for _ in range(len(self._to_prompt)):
            stream, kept, mask = self._to_prompt.popleft()
            if stream.name not in self._context.table or kept.saved.key not in self._persistence.waiting:
                continue
            if len(stream.source.buffer):
                self._prompt_again(stream, kept, mask)
                return
            self._to_prompt.append((stream, kept, mask))

    def _why_not(self, config: StreamConfig | None) -> str | None:
        if config is None:
            return "it is no longer in the configuration, or its URL had credentials, which are not kept"
        most = self._context.config.limits.streams
        if len(self._context.table) >= most:
            return f"there are {most} already (limits.streams)"
        return refusal(config, self._context.config.control)

    def _bring_back(self, stream: TrackedStream, kept: KeptObject) -> None:
        """Raises TrackerError and OSError where it cannot go on."""
        self._check_room()
        store, engine = self._persistence.store, self._context.engine
        assert store is not None
        data, most = store.memory(kept.memory_file), self._context.config.engine.conditioning_frames
        memory = memories.loads(data, self._persistence.model, engine.memory_layout(), most)
        if memory.past[-1].frame >= stream.source.decoded:
            raise BadRequest("its memory is of frames that are still to come")
        mask = memories.last_mask(memory)
        self._start(stream, kept, memories.moved(memory, str(engine.describe()["device"])), mask, "from its memory")

    def _start(
        self, stream: TrackedStream, kept: KeptObject, memory: ObjectMemory, mask: ObjectMask, how: str
    ) -> None:
        self._context.objects.restore(stream, kept.saved, memory, mask, f"object {kept.saved.id} goes on {how}")
        del self._persistence.waiting[kept.saved.key]

    def _prompt_later(self, stream: TrackedStream, kept: KeptObject, why: str) -> None:
        store = self._persistence.store
        assert store is not None
        try:
            mask = memories.any_last_mask(store.memory(kept.memory_file))
        except (TrackerError, OSError) as error:
            self._wait(stream, kept, str(error))
            return
        log.info("object %d of stream %s: %s; it is prompted again", kept.saved.id, stream.name, why)
        self._to_prompt.append((stream, kept, mask))

    def _prompt_again(self, stream: TrackedStream, kept: KeptObject, mask: ObjectMask) -> None:
        frame = stream.source.buffer.newest()
        try:
            self._check_room()
            if mask.presence <= 0:
                raise BadRequest("it was lost, and its memory is of another model")
            prompt = Prompt(mask_hw=mask_of(mask.logits_hw, frame.size_wh))
            features = self._context.features(frame)
            memory, found = self._context.engine.prompt(
                ObjectMemory(), features, 0, frame.index, prompt, frame.size_wh
            )
        except TrackerError as error:
            self._wait(stream, kept, str(error))
            return
        self._start(stream, kept, memory, found, "from its last mask, with another model")
        obj = stream.object(kept.saved.id)
        obj.followed(frame, memory, found)
        self._persistence.object_changed(obj)

    def _check_room(self) -> None:
        limit = self._context.config.engine.max_objects
        if self._context.table.object_count() >= limit:
            raise BadRequest(f"there are {limit} objects already (engine.max_objects)")

    def _wait(self, stream: TrackedStream, kept: KeptObject, why: str) -> None:
        saved = kept.saved
        text = f"object {saved.id} is not tracked: {why}"
        log.warning("stream %s: %s", stream.name, text)
        self._context.events.of_stream(
            stream.source, "object_waiting", saved.frame, object=saved.id, label=saved.label, message=text
        )
