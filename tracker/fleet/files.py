"""Libraries of files: what people submit, a message for each file in a work queue of its own, and how far it is."""

import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError, ObjectNotFoundError
from nats.js.kv import KeyValue
from nats.js.object_store import ObjectStore

from tracker.errors import BadRequest, ConfigError
from tracker.fleet.buckets import make
from tracker.fleet.reading import all_entries, stored_data
from tracker.fleet.records import ACK_WAIT_S, decoded

FILES = "tracker-files"  # the work queue
FILES_SUBJECT = "tracker-fleet.files"  # FILES_SUBJECT.<job>.<number>
CONSUMER = "boxes"
JOBS = "tracker-jobs"  # bucket: <job> -> Job, <job>.done.<number> and <job>.failed.<number> -> FileDone
RESULTS = "tracker-results"  # object store: <job>/<file>/<what>
KEPT_S = 30 * 86400.0  # what is known of a job, and its results in NATS
MAX_FILES = 100_000  # of one job
MAX_TRIES = 3

Kind = Literal["track", "segment", "index"]
Want = Literal["masks", "coco", "overlays", "jsonl", "looks"]
WANTS: dict[Kind, tuple[Want, ...]] = {
    "segment": ("coco", "masks", "overlays"),
    "track": ("jsonl", "coco", "masks", "overlays"),
    "index": ("looks",),
}
Number = Annotated[float, Meta(ge=-1e6, le=1e6)]


class Work(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done with each file; what marks an object is as on the command line."""

    kind: Kind
    want: list[Want]
    points: list[list[Number]] = []
    box: tuple[Number, Number, Number, Number] | None = None
    everything: bool = False
    model: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.+-]{1,64}\Z")] = "nano"
    image_size: Annotated[int, Meta(ge=64, le=2048, multiple_of=32)] | None = None


class FileTask(Struct, frozen=True, kw_only=True):
    """One message of the work queue."""

    job: str
    number: int
    path: str
    work: Work

    @property
    def name(self) -> str:
        """Of the folder that its results are in."""
        return f"{self.number:06d}-{Path(self.path).stem}"


class Job(Struct, frozen=True, kw_only=True):
    job: str
    time: float
    work: Work
    files: int


class FileDone(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that no box will look at again."""

    path: str
    box: str
    seconds: float
    tries: int
    results: list[str] = []
    error: str | None = None


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
    """One message for each file. Raises BadRequest for what no box could do."""
    if len(paths) > MAX_FILES:
        raise BadRequest(
            f"files: {len(paths)} are more than {MAX_FILES}, the most of one job; submit them in parts"
        )
    unknown = [want for want in work.want if want not in WANTS[work.kind]]
    if unknown or not work.want:
        raise BadRequest(
            f"want: {', '.join(unknown) or 'nothing'}; {work.kind} gives {', '.join(WANTS[work.kind])}"
        )
    if work.kind == "index" and (work.points or (work.box and work.everything)):
        raise BadRequest("index what a box is around, or everything, or all of each picture; points are not taken")
    if work.kind != "index" and bool(work.points or work.box) == work.everything:
        raise BadRequest("mark an object with points or a box, or say everything")
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
        job, _, rest = key.partition(".")
        fate = rest.partition(".")[0]
        counts[job, fate] = counts.get((job, fate), 0) + 1
        if not rest and (found := decoded((await files.jobs.get(key)).value, Job)) is not None:
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
    found = await all_entries(files.js, JOBS, f"{job}.failed.*")
    return [done for done in (decoded(data, FileDone) for data in found.values()) if done is not None]


async def outcomes(files: Files, job: str) -> list[FileDone]:
    """Of the files that are done."""
    found = await all_entries(files.js, JOBS, f"{job}.done.*")
    return [done for done in (decoded(data, FileDone) for data in found.values()) if done is not None]


async def fetch(files: Files, job: str, folder: Path) -> int:
    """A job's results out of the object store, into a folder. Returns how many files."""
    number = 0
    for done in await outcomes(files, job):
        for name in done.results:
            place = folder / name
            if not place.resolve().is_relative_to(folder.resolve()):
                raise BadRequest(f"{name!r} would not be in {folder}")
            try:
                data = await stored_data(files.results, f"{job}/{name}")
            except ObjectNotFoundError:
                where = f"where jobs.results of box {done.box} says"
                raise BadRequest(f"{name!r} is not in NATS; it is {where}") from None
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            number += 1
    return number


async def _keys(files: Files) -> list[str]:
    info = await files.js.stream_info(f"KV_{JOBS}", subjects_filter=f"$KV.{JOBS}.>")
    return [subject.removeprefix(f"$KV.{JOBS}.") for subject in info.state.subjects or {}]
