"""The daemon: builds all parts, runs the main loop, and takes everything down again.

Threads: this one owns the device and all bookkeeping; each stream has one that decodes, the control and the publish
socket have one each, and delivery turns masks into messages. They meet in queues and in the streams' buffers.
"""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

from tracker.config import Config
from tracker.config.wording import counted
from tracker.daemon.context import Context
from tracker.daemon.delivery import Delivery
from tracker.daemon.descriptions import Descriptions
from tracker.daemon.desk import RequestDesk
from tracker.daemon.discovery import Discovery
from tracker.daemon.figures import Figures
from tracker.daemon.history import History
from tracker.daemon.metrics import Metrics
from tracker.daemon.operations import operations
from tracker.daemon.pictures import Pictures
from tracker.daemon.reload import Reloader
from tracker.daemon.restore import Restorer
from tracker.daemon.similar import Similar
from tracker.daemon.status import StatusTeller
from tracker.daemon.steps import Steps
from tracker.daemon.stream_keeper import StreamKeeper
from tracker.daemon.systemd import Notifier
from tracker.daemon.watch import Part, Pulse, Watch, memory_bound
from tracker.engine.engine import Engine
from tracker.errors import TrackerError
from tracker.labels.describer import Describer
from tracker.registry.store import Store
from tracker.sockets.configured import control_server_of, publisher_of
from tracker.threads import NamedThread
from tracker.tracking.jobs import Jobs
from tracker.tracking.scheduler import Scheduler

log = logging.getLogger(__name__)

IDLE_S = 0.05  # how long a quiet loop sleeps before it looks at clocks again
STOP_S = 1.0  # for each socket to end
END_S = 0.8  # for all parts together to end: the last save comes after them, and the watch waits for 2 s
GRACE_S = 0.05  # for each of them where others have used that up


class Ticking(Protocol):
    """A part that looks at clocks."""

    def tick(self) -> None: ...


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
        self._stopping = False
        self._failure: str | None = None
        self._parts_end_s: float | None = None  # by the monotonic clock, once the first of them is to end
        self._abandon_process = abandon or log.critical
        self.ready = threading.Event()  # everything is there to serve with
        self.publisher = publisher_of(config, instance)
        self._wake = threading.Event()
        self._context = Context.of(config, engine, store, self.publisher)
        self._table, self._persistence = self._context.table, self._context.persistence
        self._failures = self._context.failures
        self.metrics = Metrics(config.metrics.endpoint, self._is_serving, self._failures)
        self._notifier = Notifier()
        self._pulse = Pulse(self._notifier.progress)
        self._jobs = Jobs(config.engine.catch_up_fraction)
        self._build_tracking(config)
        self._reloader = Reloader(self._context, self._keeper, self._notifier, read_config)
        self._build_answering(config, store)
        self.control = control_server_of(config, self._desk.put, self._desk.operations, instance)
        self._status = self._status_teller()
        parts = self._parts(store)
        self._watch = self._watch_over(parts)
        self.metrics.open(self._figures(parts))

    def _build_tracking(self, config: Config) -> None:
        """Frames in, through the model, messages out."""
        context, wake = self._context, self._wake.set
        self._restorer = Restorer(context)
        self._keeper = StreamKeeper(context, self._restorer, wake, self.metrics.forget)
        self._scheduler = Scheduler(config.engine.catch_up_fraction, context.engine.streams_per_batch)
        self._delivery = Delivery(context, wake, self.metrics.observe_delivered)
        self._steps = Steps(context, self._scheduler, self._delivery, self.metrics.observe_step)
        self._discovery = Discovery(context, self._jobs)

    def _build_answering(self, config: Config, store: Store | None) -> None:
        """Requests in, answers out."""
        context, wake = self._context, self._wake.set
        self._describer = Describer(config.describe, wake, context.described)
        self._descriptions = Descriptions(context, self._describer)
        self._pictures = Pictures(context, wake)
        parts = Similar(context, context.looks), self._descriptions, self._pictures
        history = History(store, self._table)
        self._desk = RequestDesk(self._jobs, history, parts, self._persistence, wake, self._pulse.beat)
        self._desk.open(operations(context, self._keeper.attach, self._keeper.detach, self._desk.cancel))
        self._optional: dict[str, Ticking] = {  # for want of which nobody's tracking ends
            "discovery": self._discovery,
            "labels": context.labeller,
            "descriptions": self._descriptions,
            "restore": self._restorer,
        }

    def _parts(self, store: Store | None) -> dict[str, Part]:
        """Every thread without which nothing is served, by name."""
        parts: dict[str, Part] = {
            "main": self._pulse,
            "delivery": self._delivery,
            "looks": self._context.looks,
            "pictures": self._pictures,
            "control": self.control,
            "publish": self.publisher,
        }
        return parts if store is None else {**parts, "registry": store}

    def _status_teller(self) -> StatusTeller:
        where = self._table, self._context.engine, self.publisher, self._notifier
        return StatusTeller(*where, self._steps.take_times_ms, lambda: self._reloader.problem, self._failures)

    def _watch_over(self, parts: dict[str, Part]) -> Watch:
        sockets = self.control, self.publisher
        memory = memory_bound(self._config.limits.memory_mib)
        return Watch(parts, sockets, memory, self._end_with, self._abandon, lambda: self._steps.under_way)

    def _figures(self, parts: dict[str, Part]) -> Figures:
        queues: dict[str, Callable[[], int]] = {
            "requests": self._desk.waiting,
            "jobs": self._jobs.__len__,
            "delivery": self._delivery.waiting,
            "looks": self._context.looks.waiting,
            "pictures": self._pictures.waiting,
            "publish": self.publisher.waiting,
        }
        if self._persistence.store is not None:
            queues["registry"] = self._persistence.store.waiting
        return Figures(self._context, parts, queues, self.control.answered, lambda: self._reloader.applied)

    def _is_serving(self) -> bool:
        return self.ready.is_set() and not self._stopping

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
        """Called by the watch: the main thread does not come back in time. What it left is saved without it."""
        self._persistence.rescue()
        self._abandon_process(why)

    def reload(self) -> None:
        """Read the configuration again, soon. Safe in a signal handler."""
        self._reloader.ask()
        self._wake.set()

    def run(self) -> None:
        """Until `stop`. Raises TrackerError where the watch ended it."""
        with self._running_parts():
            try:
                self._loop()
            except Exception:
                log.critical("the main loop has failed; the process ends", exc_info=True)
                raise
        if self._failure is not None:
            raise TrackerError(self._failure)

    def _loop(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self._pulse.beat()
            self._take_results()
            self._answer_requests()
            self._tick()
            if not self._work():
                self._pulse.rest()
                self._wake.wait(min(IDLE_S, self._jobs.due_in_s()))
        self._pulse.rest()

    def _work(self) -> bool:
        """A step of the model, and a slice of long work. Returns whether there was any."""
        batch = self._scheduler.next_batch(self._table)
        if batch:
            self._steps.process(batch)
            self._answer_requests()  # also between a step and a slice: nobody waits for both
        sliced = self._jobs.run_slice(tracking=self._is_tracking())
        return bool(batch) or sliced

    def _answer_requests(self) -> None:
        self._desk.answer_some(tracking=self._is_tracking())
        self._pictures.tick(tracking=self._is_tracking())

    def _is_tracking(self) -> bool:
        return self._table.object_count() > 0

    def _take_results(self) -> None:
        """Take down what delivery and the labeller found out: no other thread writes to an object."""
        for sighting in self._delivery.take_sightings():
            self._context.objects.sight(sighting)
        with self._failures.spared("labels"):
            self._context.labeller.take_guesses()

    # --------------------------------------------------------------------------------------------------- clocks

    def _tick(self) -> None:
        """Do what is due by the clock: searches, guesses, ends of objects lost for too long, the status message."""
        for work, part in self._optional.items():
            with self._failures.spared(work):
                part.tick()
        self._context.objects.expire()
        self._persistence.tick()
        self._tell_failures()
        self._reloader.tick()
        self._status.tick()

    def _tell_failures(self) -> None:
        """Say so where the state could not be saved, or can be again."""
        while self._persistence.failures:
            failure = self._persistence.failures.popleft()
            if failure is None:
                self._keeper.tell_all("persist_recovered", "everything is saved")
            else:
                self._keeper.tell_all("persist_failed", failure)

    # ---------------------------------------------------------------------------------------- start and stop

    @contextmanager
    def _running_parts(self) -> Iterator[None]:
        """Everything that has a thread, stopped in the reverse order however the loop ends: streams first, the last
        save after all that changes something."""
        with ExitStack() as stack:
            stack.callback(self._watch.stop)
            self.publisher.start()
            stack.callback(self.publisher.stop, STOP_S)
            self._persistence.start()
            stack.callback(self._persistence.stop)
            stack.callback(self._take_results)  # of the last frames, once they are delivered
            self._delivery.start()
            stack.callback(self._end, self._delivery.stop)
            self.control.start()
            stack.callback(self._end, lambda: self.control.stop(STOP_S))
            context = self._context
            for part in (context.looks, self._pictures, self._describer, context.labeller, self.metrics):
                part.start()
                stack.callback(self._end, part.stop)
            self._watch.start()
            stack.callback(self._watch.stopping)
            stack.callback(self._end, self._keeper.stop)
            self._keeper.start()
            self._say_ready()
            yield
            self._notifier.stopping()
            self._keeper.tell_all("daemon_stopping")

    def _end(self, stop: Callable[[], None]) -> None:
        """Have a part end. One that hangs, on a camera or a server that never answers, is left behind and dies with
        the process: it takes no time from the last save."""
        now_s = time.monotonic()
        if self._parts_end_s is None:
            self._parts_end_s = now_s + END_S
        ending = NamedThread(target=stop, name="ending", daemon=True)
        ending.start()
        ending.join(max(GRACE_S, self._parts_end_s - now_s))

    def _say_ready(self) -> None:
        """In the log, to systemd, and to who waits: the sockets are bound, the streams of before are there."""
        device = self._context.engine.describe()["device"]
        what = f"{counted(len(self._table), 'stream')} with {self._config.model.name} on {device}"
        log.info("serving %s: control %s, publish %s", what, self.control.endpoint, self.publisher.endpoint)
        self.ready.set()
        self._notifier.ready()
