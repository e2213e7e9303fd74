"""A box at files: a child process with the models, told file by file; results are there wholly or not at all."""

import asyncio
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from tracker.config.wording import place_and_words, printable
from tracker.errors import TrackerError
from tracker.fleet.daemon_link import Daemon
from tracker.fleet.files import CONSUMER, FILES, MAX_TRIES, Files
from tracker.fleet.records import PROGRESS_S
from tracker.fleet.settings import JobsConfig
from tracker.fleet.work import MAX_ERROR_CHARS, FileDone, FileTask, read

log = logging.getLogger(__name__)

COMMAND = [sys.executable, "-c", "from tracker.cli.start import trackerd; trackerd()", "fleet", "worker"]
PULL_S = 1.0
BUSY = 0.5  # of the time in steps of the model: above, live streams need the box
MAX_DELIVERIES = 2 * MAX_TRIES  # a file whose boxes die is not tried for ever
CHILD_IDLE_S = 5.0
RETRY_S = 2.0
NICE = 10  # live streams come first
MAX_LINE_BYTES = 2**16
MAX_NAMES_BYTES = 500_000  # of a file's results, which are told in one message; NATS takes 1 MiB
MAX_SHOWN_CHARS = 200  # of what strangers wrote


class Order(Struct, frozen=True, kw_only=True):
    """A line to the child."""

    task: FileTask
    folder: str  # that its results go into
    device: str


class Answer(Struct, frozen=True, kw_only=True):
    """A line from the child."""

    error: str | None = None


class Child:
    """`trackerd fleet worker`: loaded once, then it takes a line for each file."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def do(self, order: Order) -> Answer:
        """Raises TrackerError where the child ended over it."""
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_LINE_BYTES,
                preexec_fn=lambda: os.nice(NICE) and None,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(msgspec.json.encode(order) + b"\n")
            await self._process.stdin.drain()
            line = await self._process.stdout.readline()
            return msgspec.json.decode(line, type=Answer)
        except (OSError, ValueError, RecursionError):
            await self.stop()
            raise TrackerError("the process that worked on it ended") from None

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


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
        self._worked_s = time.monotonic()

    async def run(self) -> None:
        """For ever."""
        pulled = await self._files.js.pull_subscribe_bind(consumer=CONSUMER, stream=FILES)
        try:
            while True:
                if not (self._may_work() and self._is_idle()):
                    await asyncio.sleep(PULL_S)
                    continue
                try:
                    (message,) = await pulled.fetch(1, timeout=PULL_S)
                except TimeoutError:
                    await self._rest()
                    continue
                except (NatsError, OSError):
                    await asyncio.sleep(PULL_S)
                    continue
                await self._take(message)
        finally:
            await self._child.stop()

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
        try:
            await self._work(task, message)
        except (NatsError, OSError):
            pass  # it is handed out again
        except Exception:
            log.exception("%s is not done, and is handed out again", printable(task.path))

    async def _work(self, task: FileTask, message: Msg) -> None:
        tries = message.metadata.num_delivered
        began_s = time.monotonic()
        beating = asyncio.create_task(_keep_alive(message))
        try:
            if tries > MAX_DELIVERIES:
                raise TrackerError(f"{tries - 1} boxes that had it fell silent over it")
            results = await self._results_of(task)
        except NatsError:
            raise
        except Exception as error:  # noqa: BLE001 - one bad file must not cost the others
            why_not = _why_not(error)
            log.warning("%s: %s", printable(task.path), why_not)
            if tries < MAX_TRIES:
                await message.nak(RETRY_S)
                return
            done = self._done(task, began_s, tries, error=why_not)
        else:
            done = self._done(task, began_s, tries, results=results)
        finally:
            beating.cancel()
            self._worked_s = time.monotonic()
        fate = "failed" if done.error else "done"
        await self._files.jobs.put(f"{task.job}.{fate}.{task.number}", msgspec.json.encode(done))
        await message.ack_sync()

    def _done(
        self, task: FileTask, began_s: float, tries: int, results: list[str] | None = None, error: str | None = None
    ) -> FileDone:
        seconds = round(time.monotonic() - began_s, 3)
        return FileDone(
            path=task.path, box=self._box, seconds=seconds, tries=tries, results=results or [], error=error
        )

    async def _results_of(self, task: FileTask) -> list[str]:
        """Their names in NATS, or that of their folder. Raises TrackerError and OSError where there are none."""
        self._check(task.path)
        parent = None
        if self._config.results is not None:
            parent = Path(self._config.results) / task.job
            parent.mkdir(parents=True, exist_ok=True)
        prefix = f".unfinished-{task.number}-"
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True) as folder:
            out = Path(folder) / task.name
            out.mkdir()
            answer = await self._child.do(Order(task=task, folder=str(out), device=self._config.device))
            if answer.error is not None:
                raise TrackerError(answer.error)
            names = sorted(str(path.relative_to(folder)) for path in out.rglob("*") if path.is_file())
            if parent is not None:
                _publish(out, parent / task.name)
                for left in parent.glob(f"{prefix}*"):  # by boxes that died over it
                    shutil.rmtree(left, ignore_errors=True)
                return [task.name]
            await self._store(Path(folder), task.job, names)
        return names

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
            await self._files.results.put(f"{job}/{name}", (folder / name).read_bytes())


def _why_not(error: Exception) -> str:
    """In words that can be kept, whatever stood in the file's name."""
    expected = isinstance(error, (TrackerError, OSError))
    text = str(error) if expected else f"{type(error).__name__}: {error}"
    return printable(text)[:MAX_ERROR_CHARS] or type(error).__name__


def _publish(out: Path, place: Path) -> None:
    """At its place at once, whole; where another box was first, its results stay."""
    try:
        out.rename(place)
    except OSError:
        if not place.is_dir():
            raise
        shutil.rmtree(out)


async def _keep_alive(message: Msg) -> None:
    while True:
        with contextlib.suppress(NatsError):
            await message.in_progress()
        await asyncio.sleep(PROGRESS_S)
