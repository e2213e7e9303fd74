"""The daemon: builds all parts, runs the main loop, and takes everything down again.

Threads: this one owns the device and all bookkeeping; each stream has one that decodes, the control and the publish
socket have one each, and delivery turns masks into messages. They meet in queues and in the streams' buffers.
"""

import contextlib
import logging
import os
import resource
import secrets
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tracker.config import Config
from tracker.daemon.checks import check
from tracker.daemon.context import Context
from tracker.daemon.delivery import Delivery, ProcessedFrame
from tracker.daemon.discovery import Discovery
from tracker.daemon.events import Events
from tracker.daemon.fairness import LIGHT_AT_ONCE_S, REQUESTS_S, FairRequests
from tracker.daemon.faults import Faults
from tracker.daemon.figures import Figures
from tracker.daemon.history import DurableRequest, History
from tracker.daemon.lifecycle import ObjectLifecycle
from tracker.daemon.metrics import Metrics
from tracker.daemon.operations import operations
from tracker.daemon.persistence import Persistence, open_store
from tracker.daemon.reload import Reloader
from tracker.daemon.restore import Restorer
from tracker.daemon.similar import Similar
from tracker.daemon.status import status_line, step_times
from tracker.daemon.stream_keeper import StreamKeeper
from tracker.daemon.systemd import Notifier
from tracker.daemon.watch import Part, Pulse, Watch, memory_bound
from tracker.engine.engine import Engine
from tracker.engine.forward import Features
from tracker.engine.models.build import load_model
from tracker.errors import AtCapacity, TrackerError
from tracker.labels.labeller import Labeller
from tracker.protocol.operations import HISTORY_LIST
from tracker.protocol.replies import DeviceMemory, Status
from tracker.registry.store import Store
from tracker.sockets.access import guard_of
from tracker.sockets.control import ControlServer
from tracker.sockets.publisher import Publisher
from tracker.sockets.request import Request
from tracker.streams.stream import SWITCH_INTERVAL_S
from tracker.tracking.jobs import Jobs
from tracker.tracking.records import ObjectSnapshot, stream_record
from tracker.tracking.scheduler import ScheduledFrame, Scheduler
from tracker.tracking.state import StreamTable

log = logging.getLogger(__name__)

IDLE_S = 0.05  # how long a quiet loop sleeps before it looks at clocks again
STATUS_S = 1.0
STOP_S = 1.0  # for each socket to end


class Daemon:
    """One process's worth of tracking. `run` returns when `stop` was called, from any thread or signal handler."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        store: Store | None = None,
        *,
        abandon: Callable[[str], None] | None = None,
        read_config: Callable[[], Config] | None = None,
    ) -> None:
        """Take a `store` for what outlives a restart; `abandon(why)` ends a process whose stop takes too long;
        `read_config()` gives the configuration as it is by then, for `reload`, or raises ConfigError."""
        instance = secrets.token_hex(8)
        self._config = config
        self.publisher = self._publisher(instance)
        self._engine = engine
        self._table = StreamTable()
        self._wake = threading.Event()
        self._scheduler = Scheduler(config.engine.catch_up_fraction, engine.streams_per_batch)
        self._events = Events(self.publisher, store.record if store is not None else None)
        self._persistence = Persistence(store, config, self._table, engine)
        self._objects = ObjectLifecycle(self._table, self._events, self._persistence)
        self._context = self._context_of(engine)
        self._delivery = Delivery(
            self.publisher, config.publish, self._wake.set, self._context.zones, self._delivered
        )
        self._restorer = Restorer(self._context)
        self._keeper = StreamKeeper(self._context, self._restorer, self._wake.set, self._stream_closed)
        self._reloader = Reloader(self._context, self._keeper, read_config)
        self._notifier = Notifier()
        self._jobs = Jobs(config.engine.catch_up_fraction)
        self._answers = operations(self._context, self._keeper.attach, self._keeper.detach, self._cancel)
        self._history = History(store)
        self._similar = Similar(self._context, self._context.looks)
        self.control = self._control_server(instance)
        self._discovery = Discovery(self._context, self._jobs)
        self._faults = Faults(self._context)
        self._labeller = Labeller(config.labels, self._table)
        self._requests = FairRequests()
        self._asker = b""  # whose request is being answered
        self._stopping = False
        self._failure: str | None = None
        self._in_step = False
        self._pulse = Pulse(self._notifier.progress)
        self._abandon_process = abandon or log.critical
        parts = self._parts(store)
        self._watch = self._watch_over(parts)
        self.metrics = self._metrics_of(parts)
        self.ready = threading.Event()  # everything is there to serve with
        self._steps_ms: deque[tuple[float, float]] = deque(maxlen=1000)  # by the clock, of the processor
        self._status_due_s = 0.0

    def _parts(self, store: Store | None) -> dict[str, Part]:
        """Every thread without which nothing is served, by name."""
        parts: dict[str, Part] = {
            "main": self._pulse,
            "delivery": self._delivery,
            "looks": self._context.looks,
            "control": self.control,
            "publish": self.publisher,
        }
        return parts if store is None else {**parts, "registry": store}

    def _context_of(self, engine: Engine) -> Context:
        kept = self._objects, self._events, self._persistence
        return Context(self._config, self._table, engine, self.publisher, *kept)

    def _publisher(self, instance: str) -> Publisher:
        config = self._config
        guard = guard_of(config, "publish")
        return Publisher(config.publish.endpoint, config.publish.send_hwm, instance, config.limits, guard)

    def _control_server(self, instance: str) -> ControlServer:
        config = self._config
        names = self._answers.names | {HISTORY_LIST.name} | self._similar.names
        guard = guard_of(config, "control")
        return ControlServer(config.control.endpoint, self._ask, names, instance, config.limits, guard)

    def _watch_over(self, parts: dict[str, Part]) -> Watch:
        sockets = self.control, self.publisher
        memory = memory_bound(self._config.limits.memory_mib)
        return Watch(parts, sockets, memory, self._end_with, self._abandon, lambda: self._in_step)

    def _metrics_of(self, parts: dict[str, Part]) -> Metrics:
        queues: dict[str, Callable[[], int]] = {
            "requests": self._requests.__len__,
            "jobs": self._jobs.__len__,
            "delivery": self._delivery.waiting,
            "publish": self.publisher.waiting,
        }
        if self._persistence.store is not None:
            queues["registry"] = self._persistence.store.waiting
        figures = Figures(self._context, parts, queues, self.control.answered, lambda: self._reloader.applied)
        return Metrics(self._config.metrics.endpoint, figures, lambda: self.ready.is_set() and not self._stopping)

    def _stream_closed(self, name: str) -> None:
        self.metrics.forget(name)

    def _delivered(self, processed: ProcessedFrame, started_ns: int, ended_ns: int) -> None:
        """Called by delivery's thread."""
        self.metrics.observe_delivered(processed, started_ns, ended_ns)

    @property
    def device(self) -> str:
        return str(self._engine.describe()["device"])

    def stop(self) -> None:
        # No lock: a signal handler may find the main loop in the middle of holding it, and would wait for ever.
        self._stopping = True
        self._watch.stopping()

    def _end_with(self, failure: str) -> None:
        """Called by the watch: save what can be saved, and end with an error."""
        self._failure = failure
        self._wake.set()
        self.stop()

    def _abandon(self, why: str) -> None:
        """Called by the watch: the main loop does not come back. What it left is saved without it."""
        if self._pulse.busy_since_s is not None:
            self._persistence.rescue()
        self._abandon_process(why)

    def reload(self) -> None:
        """Read the configuration again, soon. Safe in a signal handler."""
        self._reloader.ask()
        self._wake.set()

    def run(self) -> None:
        with self._running_parts():
            while not self._stopping:
                self._wake.clear()
                self._pulse.beat()
                self._take_results()
                self._answer_requests()
                self._tick()
                batch = self._scheduler.next_batch(self._table)
                if batch:
                    self._process(batch)
                worked = self._jobs.run_slice(tracking=self._table.object_count() > 0)
                if not batch and not worked:
                    self._pulse.rest()
                    self._wake.wait(min(IDLE_S, self._jobs.due_in_s()))
            self._pulse.rest()
        if self._failure is not None:
            raise TrackerError(self._failure)

    def _process(self, batch: list[ScheduledFrame]) -> None:
        """One step of the model, and where its masks go."""
        started_ns, cpu_started_s = time.monotonic_ns(), time.thread_time()
        with_objects = [work for work in batch if work.objects]
        if with_objects:
            try:
                self._in_step = True
                self._follow(with_objects)
            except Exception as error:  # noqa: BLE001 - whatever it is, everything else goes on
                self._fail(batch, error)
                return
            finally:
                self._in_step = False
            self._faults.passed(with_objects)
            ended_ns, cpu_s = time.monotonic_ns(), time.thread_time() - cpu_started_s
            self._scheduler.spent(batch, (ended_ns - started_ns) / 1e9)
            self.metrics.observe_step((ended_ns - started_ns) / 1e9)
            self._steps_ms.append(((ended_ns - started_ns) / 1e6, cpu_s * 1e3))
        for work in batch:
            if work.live:
                self._publish(work, (started_ns, ended_ns) if work.objects else None)
            self._objects.settle(work.stream)

    def _take_results(self) -> None:
        """Take down what delivery and the labeller found out: no other thread writes to an object."""
        for sighting in self._delivery.take_sightings():
            self._objects.sight(sighting)
        self._labeller.take_guesses()

    def _follow(self, batch: list[ScheduledFrame]) -> None:
        """All images in one encoder pass, all objects on to their next frames."""
        features = self._engine.encode([work.frame.image for work in batch])
        moves = [(obj, i, work.frame) for i, work in enumerate(batch) for obj in work.objects]
        results = self._engine.propagate([(obj.memory, i, frame.index) for obj, i, frame in moves], features)
        for (obj, _, frame), (memory, mask) in zip(moves, results, strict=True):
            obj.followed(frame, memory, mask)
            obj.age += 1
        self._look(batch, features)

    def _look(self, batch: list[ScheduledFrame], features: Features) -> None:
        """Hand over what some objects look like, whose turn it is."""
        looks = self._context.looks
        try:
            for i, work in enumerate(batch):
                for obj in looks.due(work.objects):
                    looks.offer(obj, work.frame, obj.mask, self._engine.look(features, i, obj.mask.logits_hw > 0))
        except Exception:  # nobody's tracking ends for want of a look
            log.exception("no looks were taken")

    def _fail(self, batch: list[ScheduledFrame], error: Exception) -> None:
        """Streams that shared a step are tried one by one, so that one bad frame costs the others nothing."""
        if len(batch) > 1 and not isinstance(error, AtCapacity):
            for work in batch:
                self._process([work])
            return
        self._faults.end_if_hopeless(error)
        if isinstance(error, AtCapacity) or not self._followed_one_by_one(batch[0]):
            self._faults.shed(batch, error)
        elif batch[0].live:
            self._publish(batch[0], None)
        for work in batch:
            self._objects.settle(work.stream)

    def _followed_one_by_one(self, work: ScheduledFrame) -> bool:
        """Lead each object on alone, so that one whose step raises costs the others nothing. Returns whether the
        frame counts as processed: not where it could not be encoded, or no object of several could be led on."""
        try:
            features = self._engine.encode([work.frame.image])
        except Exception:  # noqa: BLE001 - the caller has its error
            return False
        failed = []
        for obj in work.objects:
            try:
                ((memory, mask),) = self._engine.propagate([(obj.memory, 0, work.frame.index)], features)
            except Exception as reason:  # noqa: BLE001 - told by `object_failed`
                failed.append((obj, reason))
            else:
                obj.followed(work.frame, memory, mask)
                obj.age += 1
                self._faults.object_passed(obj)
        if failed and len(failed) == len(work.objects) > 1:
            return False
        for obj, error in failed:
            self._faults.object_failed(obj, work.frame.index, error)
        return len(failed) < len(work.objects)

    def _publish(self, work: ScheduledFrame, model_mono_ns: tuple[int, int] | None) -> None:
        stream, frame = work.stream, work.frame
        stream.dropped += frame.index - stream.processed - 1
        stream.processed = frame.index
        stream.step += 1
        seen = tuple(ObjectSnapshot.of(o) for o in stream.objects.values() if o.pending or o.frame == frame.index)
        owner, tracked = stream.source.owner, frozenset(stream.objects)
        self._delivery.put(ProcessedFrame(frame, stream.step, stream.dropped, model_mono_ns, seen, owner, tracked))
        stream.source.buffer.consumed(frame.index)

    # ------------------------------------------------------------------------------------------------ requests

    def _ask(self, request: Request) -> None:
        """Called by the control socket's thread."""
        self._requests.put(request)
        self._wake.set()

    def _answer_requests(self) -> None:
        """Answer requests for at most REQUESTS_S, so that a busy client cannot starve tracking; and those of light
        clients a little longer, so that they need not wait for a step of the model as well."""
        deadline_s = time.monotonic() + REQUESTS_S
        light_ends_s: float | None = None
        self._requests.refill(tracking=self._table.object_count() > 0)
        while (request := self._requests.take(light_only=light_ends_s is not None)) is not None:
            started_s = time.monotonic()
            self._pulse.beat()
            self._asker = request.owner
            try:
                self._answer(request)
            except TrackerError as error:
                request.fail(error)
            except Exception as error:
                log.exception("%s failed", request.op)
                request.fail(
                    TrackerError(f"{request.op} failed inside the daemon: {type(error).__name__}; see its log")
                )
            ended_s = time.monotonic()
            self._requests.spent(request.owner, ended_s - started_s)
            if light_ends_s is None and ended_s > deadline_s:
                light_ends_s = ended_s + LIGHT_AT_ONCE_S
            if self._stopping or (light_ends_s is not None and ended_s > light_ends_s):
                break
        if light_ends_s is not None:
            self._wake.set()

    def _cancel(self, request_id: Any) -> None:
        self._jobs.cancel(request_id, self._asker)

    def _answer(self, request: Request) -> None:
        if request.op == HISTORY_LIST.name:
            self._history.answer(request)
        elif request.op in self._similar.names:
            self._similar.answer(request)
        elif (in_slices := self._answers.in_slices.get(request.op)) is not None:
            self._jobs.check_room(request.owner)
            self._jobs.add(DurableRequest(request, self._persistence), in_slices(request.args, request.id))
        else:
            self._persistence.reply(request, self._answers.at_once[request.op](request.args))

    # --------------------------------------------------------------------------------------------------- clocks

    def _tick(self) -> None:
        """What is due by the clock: searches, guesses, objects that were lost for too long, the status message."""
        self._discovery.tick()
        self._labeller.tick()
        self._objects.expire()
        self._restorer.tick()
        self._persistence.tick()
        self._tell_failures()
        if self._reloader.asked:
            self._reload()
        if time.monotonic() >= self._status_due_s:
            self._status_due_s = time.monotonic() + STATUS_S
            try:
                self.publisher.publish("status/", self._status())
                self._notifier.status(status_line(self._table, self._reloader.problem))
            except Exception:  # nobody's tracking ends for want of a status
                log.exception("the status cannot be told")

    def _reload(self) -> None:
        self._notifier.reloading()
        try:
            self._reloader.reload()
        except Exception:  # a configuration that cannot be applied ends nobody's tracking
            log.exception("the configuration could not be applied as a whole")
        self._notifier.ready()

    def _tell_failures(self) -> None:
        """Say so where the state could not be saved, or can be again."""
        while self._persistence.failures:
            failure = self._persistence.failures.popleft()
            if failure is None:
                self._keeper.tell_all("persist_recovered", "everything is saved")
            else:
                self._keeper.tell_all("persist_failed", failure)

    def _status(self) -> Status:
        steps_ms, self._steps_ms = self._steps_ms, deque(maxlen=1000)
        return Status(
            time=time.time(),
            streams=[stream_record(stream) for stream in self._table],
            memory=DeviceMemory(**self._engine.memory()),
            steps=step_times(steps_ms),
        )

    # ---------------------------------------------------------------------------------------- start and stop

    @contextmanager
    def _running_parts(self) -> Iterator[None]:
        """Everything that has a thread, stopped in the reverse order however the loop ends."""
        with ExitStack() as stack:
            stack.callback(self._watch.stop)
            self.publisher.start()
            stack.callback(self.publisher.stop, STOP_S)
            self._persistence.start()
            stack.callback(self._persistence.stop)
            stack.callback(self._take_results)  # of the last frames, once they are delivered
            self._delivery.start()
            stack.callback(self._delivery.stop)
            self.control.start()
            stack.callback(self.control.stop, STOP_S)
            self._context.looks.start()
            stack.callback(self._context.looks.stop)
            self._labeller.start()
            stack.callback(self._labeller.stop)
            self.metrics.start()
            stack.callback(self.metrics.stop)
            self._watch.start()
            stack.callback(self._watch.stopping)
            stack.callback(self._keeper.stop)
            self._keeper.start()
            self.ready.set()
            self._notifier.ready()
            yield
            self._notifier.stopping()
            self._keeper.tell_all("daemon_stopping")


def _raise_descriptor_limit() -> None:
    """As many descriptors as the system lets the process have: connections and sources need them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _abandon(_: str) -> None:
    """End at once, with an error: what hangs in FFmpeg or on the device does not come back."""
    logging.shutdown()
    os._exit(1)


def serve(path: str | Path) -> None:
    """Run the daemon of a configuration file until SIGTERM or Ctrl-C. Raises ConfigError and ModelError."""
    config = check(path)
    # Decoding needs the interpreter between two calls of FFmpeg; at the default it waits 5 ms for a busy thread.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _raise_descriptor_limit()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to apply a new configuration to
    Notifier().status(f"loading {config.model.name}")
    store = open_store(config.persist, config.looks)
    engine = Engine(load_model(config.model), config.engine)
    engine.warm_up()
    daemon = Daemon(config, engine, store, abandon=_abandon, read_config=lambda: check(path))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    log.info(
        "serving %d streams with %s on %s: control %s, publish %s",
        len(config.streams),
        config.model.name,
        daemon.device,
        config.control.endpoint,
        config.publish.endpoint,
    )
    daemon.run()
    log.info("stopped")
