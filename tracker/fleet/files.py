"""Libraries of files: what people submit, a message for each file in a work queue of its own, and how far it is."""

import logging
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct, structs
from nats.aio.client import Client as Nats
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError, ObjectNotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from tracker.errors import BadRequest, ConfigError
from tracker.fleet.buckets import make
from tracker.fleet.reading import BadObject, all_entries, stored_data
from tracker.fleet.records import ACK_WAIT_S
from tracker.fleet.work import (
    JOB_NAME,
    MAX_FILES,
    FileDone,
    FileTask,
    Job,
    Kind,
    Work,
    check_paths,
    check_work,
    read,
)

FILES = "tracker-files"  # the work queue
FILES_SUBJECT = "tracker-fleet.files"  # FILES_SUBJECT.<job>.<number>
CONSUMER = api.ConsumerConfig(
    name="boxes", durable_name="boxes", ack_policy=api.AckPolicy.EXPLICIT, ack_wait=ACK_WAIT_S, max_ack_pending=-1
)
JOBS = "tracker-jobs"  # bucket: <job> -> Job, <job>.done.<number> and <job>.failed.<number> -> FileDone
RESULTS = "tracker-results"  # object store: <job>/<file>/<what>
KEPT_S = 30 * 86400.0  # what is known of a job, and its results in NATS
MAX_TRIES = 3

LOST = "it left the queue without an outcome, which NATS did not take; the log of its box says why"
FILE_NUMBER = r"^(?:0|[1-9][0-9]{0,4})\Z"

log = logging.getLogger(__name__)


class Progress(Struct, frozen=True, kw_only=True):
    job: str
    time: float
    kind: Kind
    files: int
    done: int
    failed: int
    queued: int


class Files(Struct, frozen=True):
    """The queue, what is known of jobs, and their results."""

    nats: Nats
    js: JetStreamContext
    jobs: KeyValue
    results: ObjectStore

    @classmethod
    async def open(cls, nats: Nats) -> "Files":
        """Raises ConfigError where no box for files was ever started."""
        js = nats.jetstream()
        try:
            return cls(nats, js, await js.key_value(JOBS), await js.object_store(RESULTS))
        except NotFoundError:
            raise ConfigError(["no box of this fleet works on files yet: start one with jobs.inputs"]) from None

    @classmethod
    async def create(cls, nats: Nats, replicas: int) -> "Files":
        js = nats.jetstream()
        retention = api.RetentionPolicy.WORK_QUEUE
        queue = api.StreamConfig(
            name=FILES, subjects=[f"{FILES_SUBJECT}.>"], retention=retention, num_replicas=replicas
        )
        jobs = api.KeyValueConfig(bucket=JOBS, ttl=KEPT_S, history=1, replicas=replicas)
        await make(js.add_stream, queue)
        await make(js.create_key_value, jobs)
        await make(js.create_object_store, RESULTS, api.ObjectStoreConfig(replicas=replicas, ttl=int(KEPT_S)))
        return await cls.open(nats)


async def submit(files: Files, work: Work, paths: Sequence[Path]) -> Job:
    """One message for each file, once all were looked at. Raises BadRequest for what no box could do."""
    if len(paths) > MAX_FILES:
        raise BadRequest(
            f"files: {len(paths)} are more than {MAX_FILES}, the most of one job; submit them in parts"
        )
    check_work(work)
    check_paths(paths)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    begun = Job(job=name, time=time.time(), work=work, files=0)
    await files.jobs.put(name, msgspec.json.encode(begun))
    for number, path in enumerate(paths):
        task = FileTask(job=name, number=number, path=str(path), work=work)
        await files.js.publish(f"{FILES_SUBJECT}.{name}.{number}", msgspec.json.encode(task))
    job = structs.replace(begun, files=len(paths))  # from now on a file that is neither queued nor told of is lost
    await files.jobs.put(name, msgspec.json.encode(job))
    return job


async def progress(files: Files) -> list[Progress]:
    """Of all jobs, the newest first."""
    jobs = [await _job(files, name) for name in await _names(files)]
    found = [await _progress(files, job) for job in jobs if job is not None]
    return sorted(found, key=lambda one: -one.time)


async def _progress(files: Files, job: Job) -> Progress:
    queued = await _queued(files, job.job)  # first: what leaves the queue after this, was told of before
    done, failed = await _told(files, job.job, "done"), await _told(files, job.job, "failed")
    numbers = set(range(job.files)) or queued | done | failed  # while it is submitted there are more and more
    failed -= done
    queued -= done | failed
    lost = numbers - queued - done - failed
    return Progress(
        job=job.job,
        time=job.time,
        kind=job.work.kind,
        files=len(numbers),
        done=len(numbers & done),
        failed=len(numbers & failed) + len(lost),
        queued=len(numbers & queued),
    )


async def failures(files: Files, job: str) -> list[FileDone]:
    """Raises BadRequest where there is no such job."""
    found = await _known(files, job)
    queued = await _queued(files, job)
    told = await _told(files, job, "done") | await _told(files, job, "failed")
    lost = sorted(set(range(found.files)) - queued - told)
    return await _done(files, job, "failed") + [_lost(number) for number in lost]


def _lost(number: int) -> FileDone:
    """A file whose outcome NATS never took."""
    return FileDone(path=f"file {number} of the job", box="", seconds=0, tries=0, error=LOST)


async def outcomes(files: Files, job: str) -> list[FileDone]:
    """Of the files that are done. Raises BadRequest where there is no such job."""
    return await _done(files, job, "done")


async def fetch(files: Files, job: str, folder: Path) -> int:
    """A job's results out of the object store, into a folder. Returns how many files.

    Raises BadRequest where some are elsewhere; the others are fetched then.
    """
    number = 0
    missing: list[str] = []
    for done in await outcomes(files, job):
        for name in done.results:
            place = folder / name
            if not place.resolve().is_relative_to(folder.resolve()):
                raise BadRequest(f"{name!r} would not be in {folder}")
            try:
                data = await stored_data(files.js, RESULTS, f"{job}/{name}")
            except (ObjectNotFoundError, BadObject):
                missing.append(f"{name!r} is not in NATS; it is where jobs.results of box {done.box} says")
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            number += 1
    if missing:
        others = f" (and {len(missing) - 1} others are not)" if len(missing) > 1 else ""
        raise BadRequest(f"{missing[0]}{others}; {number} files were fetched")
    return number


async def _known(files: Files, job: str) -> Job:
    """Raises BadRequest where there is no such job."""
    found = await _job(files, job) if re.match(JOB_NAME, job) else None
    if found is None:
        raise BadRequest(f"job: the fleet has no job {job!r}; trackerd fleet jobs lists all of the last 30 days")
    return found


async def _done(files: Files, job: str, fate: str) -> list[FileDone]:
    """Raises BadRequest where there is no such job."""
    await _known(files, job)
    found: list[FileDone] = []
    strange = 0
    for key, data in (await all_entries(files.js, JOBS, f"{job}.{fate}.*")).items():
        try:
            if re.match(FILE_NUMBER, key.rpartition(".")[2]):
                found.append(read(data, FileDone))
        except ValueError:
            strange += 1
    if strange:
        log.warning("%d records of job %s are not as a box writes them, and are passed over", strange, job)
    return found


async def _job(files: Files, name: str) -> Job | None:
    """None where there is none, or what is there is not as it is submitted."""
    try:
        message = await files.js.get_last_msg(f"KV_{JOBS}", f"$KV.{JOBS}.{name}")
        job = read(message.data, Job)
    except (NotFoundError, ValueError):
        return None
    return job if job.job == name else None


async def _names(files: Files) -> list[str]:
    """Of jobs; other keys can be in the bucket too."""
    keys = await _last_parts(files.js, f"KV_{JOBS}", f"$KV.{JOBS}.*")
    return [key for key in keys if re.match(JOB_NAME, key)]


async def _told(files: Files, job: str, fate: str) -> set[int]:
    """The numbers of the files that have this outcome."""
    return _numbers(await _last_parts(files.js, f"KV_{JOBS}", f"$KV.{JOBS}.{job}.{fate}.*"))


async def _queued(files: Files, job: str) -> set[int]:
    """The numbers of the files that are waiting, or that a box has."""
    return _numbers(await _last_parts(files.js, FILES, f"{FILES_SUBJECT}.{job}.*"))


async def _last_parts(js: JetStreamContext, stream: str, subjects: str) -> list[str]:
    info = await js.stream_info(stream, subjects_filter=subjects)
    return [subject.rpartition(".")[2] for subject in info.state.subjects or {}]


def _numbers(parts: list[str]) -> set[int]:
    return {int(part) for part in parts if re.match(FILE_NUMBER, part)}
