"""Libraries of files: what people submit, a message for each file in a work queue of its own, and how far it is."""

import logging
import re
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError, ObjectNotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from tracker.errors import BadRequest, ConfigError
from tracker.fleet.buckets import make
from tracker.fleet.reading import BadObject, all_entries, stored_data
from tracker.fleet.records import ACK_WAIT_S
from tracker.fleet.work import (
    JOB,
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
CONSUMER = "boxes"
JOBS = "tracker-jobs"  # bucket: <job> -> Job, <job>.done.<number> and <job>.failed.<number> -> FileDone
RESULTS = "tracker-results"  # object store: <job>/<file>/<what>
KEPT_S = 30 * 86400.0  # what is known of a job, and its results in NATS
MAX_TRIES = 3

KEY = re.compile(rf"(?P<job>{JOB})(?:\.(?P<fate>done|failed)\.(?:0|[1-9][0-9]{{0,4}}))?")  # of the bucket

log = logging.getLogger(__name__)


class Progress(Struct, frozen=True, kw_only=True):
    job: str
    time: float
    kind: Kind
    files: int
    done: int
    failed: int


class Files(Struct, frozen=True):
    """The queue, what is known of jobs, and their results."""

    js: JetStreamContext
    jobs: KeyValue
    results: ObjectStore

    @classmethod
    async def open(cls, js: JetStreamContext) -> "Files":
        """Raises ConfigError where no box was ever started."""
        try:
            return cls(js, await js.key_value(JOBS), await js.object_store(RESULTS))
        except NotFoundError:
            raise ConfigError(
                ["there is no fleet in this NATS yet: start a box first, trackerd fleet serve"]
            ) from None

    @classmethod
    async def create(cls, js: JetStreamContext, replicas: int) -> "Files":
        retention = api.RetentionPolicy.WORK_QUEUE
        queue = api.StreamConfig(
            name=FILES, subjects=[f"{FILES_SUBJECT}.>"], retention=retention, num_replicas=replicas
        )
        await make(js.add_stream(queue))
        await make(js.create_key_value(bucket=JOBS, ttl=KEPT_S, history=1, replicas=replicas))
        store = api.ObjectStoreConfig(replicas=replicas, ttl=int(KEPT_S))
        await make(js.create_object_store(RESULTS, config=store))
        consumer = api.ConsumerConfig(
            name=CONSUMER,
            durable_name=CONSUMER,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_ack_pending=-1,
        )
        await js.add_consumer(FILES, consumer)
        return await cls.open(js)


async def submit(files: Files, work: Work, paths: Sequence[Path]) -> Job:
    """One message for each file, once all were looked at. Raises BadRequest for what no box could do."""
    if len(paths) > MAX_FILES:
        raise BadRequest(
            f"files: {len(paths)} are more than {MAX_FILES}, the most of one job; submit them in parts"
        )
    check_work(work)
    check_paths(paths)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    job = Job(job=name, time=time.time(), work=work, files=len(paths))
    await files.jobs.put(name, msgspec.json.encode(job))
    for number, path in enumerate(paths):
        task = FileTask(job=name, number=number, path=str(path), work=work)
        await files.js.publish(f"{FILES_SUBJECT}.{name}.{number}", msgspec.json.encode(task))
    return job


async def progress(files: Files) -> list[Progress]:
    """Of all jobs, the newest first."""
    counts: dict[tuple[str, str], int] = {}
    jobs: list[Job] = []
    for key in await _keys(files):
        job, fate = key["job"], key["fate"]
        if fate is not None:
            counts[job, fate] = counts.get((job, fate), 0) + 1
        elif (found := await _job(files, job)) is not None:
            jobs.append(found)
    return [
        Progress(
            job=job.job,
            time=job.time,
            kind=job.work.kind,
            files=job.files,
            done=counts.get((job.job, "done"), 0),
            failed=counts.get((job.job, "failed"), 0),
        )
        for job in sorted(jobs, key=lambda job: -job.time)
    ]


async def failures(files: Files, job: str) -> list[FileDone]:
    """Raises BadRequest where there is no such job."""
    return await _done(files, job, "failed")


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


async def _done(files: Files, job: str, fate: str) -> list[FileDone]:
    """Raises BadRequest where there is no such job."""
    if re.match(JOB_NAME, job) is None or await _job(files, job) is None:
        raise BadRequest(f"job: the fleet has no job {job!r}; trackerd fleet jobs lists all of the last 30 days")
    found: list[FileDone] = []
    strange = 0
    for key, data in (await all_entries(files.js, JOBS, f"{job}.{fate}.*")).items():
        try:
            if KEY.fullmatch(key) is not None:
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


async def _keys(files: Files) -> list["re.Match[str]"]:
    """Those of jobs; others can be in the bucket too."""
    prefix = f"$KV.{JOBS}."
    info = await files.js.stream_info(f"KV_{JOBS}", subjects_filter=f"{prefix}>")
    keys = [KEY.fullmatch(subject.removeprefix(prefix)) for subject in info.state.subjects or {}]
    return [key for key in keys if key is not None]
