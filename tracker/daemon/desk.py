"""Requests and their answers: in turn, for a bounded time, each answered once."""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any, Protocol

from tracker.daemon.answers import Answers
from tracker.daemon.fairness import LIGHT_AT_ONCE_S, REQUESTS_S, FairRequests
from tracker.daemon.history import DurableRequest, History
from tracker.daemon.persistence import Persistence
from tracker.errors import TrackerError, device_is_lost
from tracker.protocol.operations import HISTORY_LIST
from tracker.sockets.request import Request
from tracker.tracking.jobs import Jobs

log = logging.getLogger(__name__)


class Answering(Protocol):
    """A part that answers some operations by itself."""

    @property
    def names(self) -> Collection[str]: ...

    def answer(self, request: Request, /) -> None: ...


class RequestDesk:
    """Takes requests from the control socket's thread, and answers them in the main loop.

    `wake` makes that look here; `beat` says to its watch that it goes on.
    """

    def __init__(
        self,
        jobs: Jobs,
        history: History,
        parts: Iterable[Answering],
        persistence: Persistence,
        wake: Callable[[], None],
        beat: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._history = history
        self._parts = {name: part for part in parts for name in part.names}
        self._persistence = persistence
        self._wake = wake
        self._beat = beat
        self._answers = Answers({}, {})
        self._requests = FairRequests()
        self._owner = b""  # whose request is being answered

    def open(self, answers: Answers) -> None:
        """From now on these operations are known."""
        self._answers = answers

    @property
    def operations(self) -> set[str]:
        """Names of what is answered."""
        return self._answers.names | {HISTORY_LIST.name} | self._parts.keys()

    def waiting(self) -> int:
        """Number of requests that wait."""
        return len(self._requests)

    def put(self, request: Request) -> None:
        """Called by the control socket's thread."""
        self._requests.put(request)
        self._wake()

    def cancel(self, request_id: Any) -> None:
        """End a long request of the one who asks. Raises BadRequest where there is none of that id."""
        self._jobs.cancel(request_id, self._owner)

    def answer_some(self, *, tracking: bool) -> None:
        """Answer for at most REQUESTS_S, so that a busy client cannot starve tracking; and light clients a little
        longer, so that they need not wait for a step of the model as well."""
        deadline_s = time.monotonic() + REQUESTS_S
        light_ends_s: float | None = None
        self._requests.refill(tracking=tracking)
        while (request := self._requests.take(light_only=light_ends_s is not None)) is not None:
            ended_s = self._answer_one(request)
            if light_ends_s is None and ended_s > deadline_s:
                light_ends_s = ended_s + LIGHT_AT_ONCE_S
            if light_ends_s is not None and ended_s > light_ends_s:
                break
        if light_ends_s is not None:
            self._wake()

    def _answer_one(self, request: Request) -> float:
        """Returns when it was done."""
        self._beat()
        started_s = time.monotonic()
        self._try(request)
        ended_s = time.monotonic()
        self._requests.spent(request.owner, ended_s - started_s)
        return ended_s

    def _try(self, request: Request) -> None:
        """Answered, whatever happens; raises where the device is lost, which every later request would hear too."""
        self._owner = request.owner
        try:
            self._answer(request)
        except TrackerError as error:
            request.fail(error)
        except Exception as error:
            log.exception("%s failed", request.op)
            what = f"{request.op} failed inside the daemon: {type(error).__name__}"
            request.fail(TrackerError(f"{what}; see its log"))
            if device_is_lost(error):
                raise

    def _answer(self, request: Request) -> None:
        if request.op == HISTORY_LIST.name:
            self._history.answer(request)
            return
        part = self._parts.get(request.op)
        if part is not None:
            part.answer(request)
            return
        in_slices = self._answers.in_slices.get(request.op)
        if in_slices is None:
            result = self._answers.at_once[request.op](request.args)
            self._persistence.reply(request, result)
            return
        self._jobs.check_room(request.owner)
        durable = DurableRequest(request, self._persistence)
        self._jobs.add(durable, in_slices(request.args, request.id))
