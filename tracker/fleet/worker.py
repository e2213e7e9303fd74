"""A box at files: a child process with the models, told file by file; results are there wholly or not at all."""

import asyncio
import contextlib
import logging
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
from msgspec import structs
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError

from tracker.client.tasks import is_cancelled, waited_out
from tracker.config.wording import place_and_words, printable
from tracker.errors import TrackerError
from tracker.fleet.aside import Aside
from tracker.fleet.child import Child, Order
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.files import CONSUMER, FILES, MAX_TRIES, Files
from tracker.fleet.pulling import Pull
from tracker.fleet.records import PROGRESS_S
from tracker.fleet.settings import JobsConfig
from tracker.fleet.unfinished import tidy_up, unfinished
from tracker.fleet.work import MAX_ERROR_CHARS, FileDone, FileTask, read

log = logging.getLogger(__name__)

IDLE_S = 1.0  # between two looks whether the box may work, or NATS answers
BUSY = 0.5  # of the time in steps of the model: above, live streams need the box
MAX_DELIVERIES = 2 * MAX_TRIES  # a file whose boxes die, or whose outcome NATS refuses, is not tried for ever
CHILD_IDLE_S = 5.0
RETRY_S = 2.0
STOPPED_S = 2.0  # for what is unfinished to be removed when the box stops; else whoever comes next does it
MAX_NAMES_BYTES = 500_000  # of a file's results, which are told in one message; NATS takes 1 MiB
MAX_SHOWN_CHARS = 200  # of what strangers wrote
REFUSALS = (APIError, MaxPayloadError)  # by NATS, which is there


class Worker:
    """Takes files while the box is idle. `may_work` says whether it may take one."""

    def __init__(
        self, box: str, config: JobsConfig, daemon: Daemon, files: Files, may_work: Callable[[], bool]
    ) -> None:
        self._box = box
        self._config = config
        self._daemon = daemon
        self._files = files
        self._may_work = may_work
        self._child = Child()
        self._aside = Aside()  # all that touches the files, and the folder that boxes share
        self._worked_s = time.monotonic()

    async def run(self) -> None:
        """For ever. What dead boxes left of files that nobody does again is removed first."""
        try:
            if self._config.results is not None:
                await self._aside.begin(partial(tidy_up, Path(self._config.results)))
            async with Pull(self._files.nats, FILES, CONSUMER) as pull:
                while True:
                    await self._work_off(pull)
        finally:
            self._aside.close()
            await self._child.stop()

    async def _work_off(self, pull: Pull) -> None:
        """One file, where there is one."""
        if not (self._may_work() and self._is_idle()):
            await asyncio.sleep(IDLE_S)
            return
        try:
            message = await pull.next()
        except (NatsError, TimeoutError, OSError):
            await asyncio.sleep(IDLE_S)
            return
        if message is None:
            await self._rest()
        else:
            await self._take(message)

    def _is_idle(self) -> bool:
        status = self._daemon.status
        return status is not None and status.steps.count * status.steps.p50_ms < 1000 * BUSY

    async def _rest(self) -> None:
        """A child without work is not kept: live streams have better use for its memory."""
        if time.monotonic() - self._worked_s > CHILD_IDLE_S:
            await self._child.stop()

    async def _take(self, message: Msg) -> None:
        """A message of the queue, which anybody may have written: none of them ends the work on the others."""
        try:
            task = read(message.data, FileTask)
        except ValueError as error:
            place, words = place_and_words(error)
            subject, why = message.subject[:MAX_SHOWN_CHARS], f"{place} {words}"[:MAX_SHOWN_CHARS]
            log.warning("what is no file of a job is dropped: %s: %s", printable(subject), printable(why.strip()))
            with contextlib.suppress(NatsError, OSError):
                await message.term()
            return
        beating = asyncio.create_task(_keep_alive(message))
        tries = message.metadata.num_delivered
        try:
            await self._work(task, message, tries)
        except Exception as error:
            if not isinstance(error, (NatsError, OSError)):
                log.exception("%s is not done, and is handed out again", printable(task.path))
            await self._again(task, message, tries, _why_not(error))
        finally:
            beating.cancel()
            self._worked_s = time.monotonic()

    async def _work(self, task: FileTask, message: Msg, tries: int) -> None:
        done = await self._outcome(task, tries)
        if done.error is not None and tries < MAX_TRIES:
            await message.nak(RETRY_S)
            return
        refused = await self._record(task, done)
        if refused is not None and done.error is None and tries >= MAX_TRIES:
            refused = await self._record(task, structs.replace(done, results=[], error=refused))
        if refused is None:
            await message.ack_sync()
        else:
            await self._again(task, message, tries, refused)

    async def _again(self, task: FileTask, message: Msg, tries: int, why: str) -> None:
        """Have the file handed out again, later and later; in the end nobody gets it, which shows in its job."""
        with contextlib.suppress(NatsError, OSError):
            if tries <= MAX_DELIVERIES:
                await message.nak(RETRY_S * 4 ** max(0, tries - MAX_TRIES))
                return
            log.error("%s is given up after %d tries: %s", printable(task.path), MAX_DELIVERIES, why)
            await message.term()

    async def _outcome(self, task: FileTask, tries: int) -> FileDone:
        """Raises the errors of NATS where it is away."""
        began_s = time.monotonic()
        try:
            if tries > MAX_DELIVERIES:
                raise TrackerError(f"it was handed out {tries - 1} times, and no box could write what became of it")
            return self._done(task, began_s, tries, results=await self._results_of(task))
        except Exception as error:
            if isinstance(error, NatsError) and not isinstance(error, REFUSALS):
                raise
            why_not = _why_not(error)  # one bad file must not cost the others
            log.warning("%s: %s", printable(task.path), why_not)
            return self._done(task, began_s, tries, error=why_not)

    async def _record(self, task: FileTask, done: FileDone) -> str | None:
        """Why NATS does not take it; None: it does. Raises the errors of NATS where it is away."""
        fate = "failed" if done.error else "done"
        try:
            await self._files.jobs.put(f"{task.job}.{fate}.{task.number}", msgspec.json.encode(done))
        except REFUSALS as error:
            why_not = _why_not(error)
            log.warning("%s: its outcome is not kept: %s", printable(task.path), why_not)
            return why_not
        return None

    def _done(
        self, task: FileTask, began_s: float, tries: int, results: list[str] | None = None, error: str | None = None
    ) -> FileDone:
        seconds = round(time.monotonic() - began_s, 3)
        return FileDone(
            path=task.path, box=self._box, seconds=seconds, tries=tries, results=results or [], error=error
        )

    async def _results_of(self, task: FileTask) -> list[str]:
        """Their names in NATS, or that of their folder. Raises TrackerError and OSError where there are none."""
        parent = None if self._config.results is None else Path(self._config.results) / task.job
        async with self._folder_for(task, parent) as folder:
            out = folder / task.name
            answer = await self._child.do(Order(task=task, folder=str(out), device=self._config.device))
            if answer.error is not None:
                raise TrackerError(answer.error)
            if parent is not None:
                await self._aside.begin(partial(_publish, out, parent / task.name))
                return [task.name]
            names = await self._aside.begin(partial(_names_in, out))
            await self._store(folder, task.job, names)
            return names

    @asynccontextmanager
    async def _folder_for(self, task: FileTask, parent: Path | None) -> AsyncIterator[Path]:
        """With an empty one for the file's results in it; gone in the end."""
        stack = ExitStack()

        def make() -> Path:
            self._check(task.path)
            if parent is not None:
                parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(unfinished(parent, task.number))
            (folder / task.name).mkdir()
            return folder

        try:
            yield await self._aside.begin(make)
        finally:
            removing = self._aside.begin(stack.close)  # after what is still done in it
            if is_cancelled():
                await waited_out(removing, STOPPED_S)
            else:
                await asyncio.wait([removing])

    def _check(self, path: str) -> None:
        """Raises TrackerError where the box's owner does not let files be read there."""
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(os.path.realpath(folder)) for folder in self._config.inputs):
            raise TrackerError(f"{path} is in no folder of jobs.inputs of box {self._box}")

    async def _store(self, folder: Path, job: str, names: list[str]) -> None:
        """Raises TrackerError where they are too many for NATS."""
        if len(msgspec.json.encode(names)) > MAX_NAMES_BYTES:
            raise TrackerError(f"its {len(names)} results are too many for NATS: have a folder, jobs.results")
        for name in names:
            await self._files.results.put(f"{job}/{name}", await self._aside.begin((folder / name).read_bytes))


def _why_not(error: Exception) -> str:
    """In words that can be kept, whatever stood in the file's name."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, REFUSALS):
        text = f"NATS does not take it: {getattr(error, 'description', None) or str(error).removeprefix('nats: ')}"
    elif isinstance(error, (TrackerError, OSError)):
        text = str(error)
    return printable(text)[:MAX_ERROR_CHARS] or type(error).__name__


def _publish(out: Path, place: Path) -> None:
    """At its place at once, whole; where another box was first, its results stay. Then its job is tidied up."""
    try:
        out.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(out)
    tidy_up(place.parents[1], place.parent.name)


def _names_in(out: Path) -> list[str]:
    """Of a file's results, each with their folder's."""
    return sorted(str(path.relative_to(out.parent)) for path in out.rglob("*") if path.is_file())


async def _keep_alive(message: Msg) -> None:
    while True:
        with contextlib.suppress(NatsError):
            await message.in_progress()
        await asyncio.sleep(PROGRESS_S)
