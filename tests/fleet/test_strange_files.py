"""Whoever reaches NATS can write tasks and records of jobs: they reach no folder, stop no box and hide no job."""

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from click.testing import CliRunner, Result
from nats.js import JetStreamContext

from helpers.boxes import until
from helpers.fleets import NatsServer, nats_server
from helpers.workers import ask, worker_of
from tracker.cli.trackerd import trackerd
from tracker.errors import BadRequest
from tracker.fleet import files
from tracker.fleet.files import FILES, FILES_SUBJECT, JOBS, MAX_TRIES, Files
from tracker.fleet.settings import JobsConfig
from tracker.fleet.work import FileDone, Job, Work

pytestmark = [pytest.mark.nats, pytest.mark.timeout(120)]

R = TypeVar("R")

PATIENCE_S = 60.0
EVERYTHING = Work(kind="segment", want=["coco"], everything=True)
JOB = "20261126-120000-0a1b2c"
ESCAPE = "\x1b]0;mine\x07"
JUNK = [b"", b"\xff\xfe\x00", b"5", b"null", b"{}", b'{"x":' + b"[" * 20_000, b"9" * 5000]

# What JetStream says by itself where there is no message.
LIKE_JETSTREAM: list[dict[str, str] | None] = [
    None,
    {"Status": "404", "Description": "No Messages"},
    {"Status": "408"},
    {"Status": "409", "Description": "Consumer Deleted"},
    {"Status": "503"},
    {"Status": "100"},
    {"Status": "\x1b[31m"},
]

# A child that answers as the real one does, and works on nothing.
CHILD = """
import json, pathlib, sys
for line in sys.stdin:
    order = json.loads(line)
    {work}
    print(json.dumps(answer), flush=True)
"""
TOO_MANY = """
    for number in range(400):
        (pathlib.Path(order["folder"]) / (str(number) + "\\x01" * 230)).touch()
    answer = {}"""
ESCAPES = """
    answer = {"error": "\\x1b]0;mine\\x07" + "e" * 9000}"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as server:
        yield server


async def queued(js: JetStreamContext) -> int:
    return (await js.stream_info(FILES)).state.messages


def task(path: Path | str, **fields: Any) -> bytes:
    work = msgspec.to_builtins(EVERYTHING)
    return json.dumps({"job": JOB, "number": 1, "path": str(path), "work": work, **fields}).encode()


def work_off(
    server: NatsServer, config: JobsConfig, messages: list[bytes], job_paths: list[Path]
) -> list[FileDone]:
    """What became of a job behind strange messages; none is left, and the worker still works."""

    async def work(there: Files) -> list[FileDone]:
        for number, message in enumerate(messages):
            headers = LIKE_JETSTREAM[number % len(LIKE_JETSTREAM)]
            await there.js.publish(f"{FILES_SUBJECT}.strange.{number}", message, headers=headers)
        job = await files.submit(there, EVERYTHING, job_paths)

        async def is_empty() -> bool:
            return await queued(there.js) == 0

        async with worker_of(there, config) as running:
            await until(is_empty)
            assert not running.done()
        return await files.failures(there, job.job)

    return ask(server, work)


class TestTasks:
    def test_that_are_none_are_dropped_and_what_comes_after_them_is_done(
        self, server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("tracker.fleet.worker.RETRY_S", 0.01)
        inputs, results, outside = tmp_path / "in", tmp_path / "shared" / "results", tmp_path / "outside"
        picture = inputs / "picture.png"
        messages = [
            *JUNK,
            *(task(picture, job=job) for job in (str(outside), "../../outside", "..", "", "a b.c>*", ESCAPE)),
            *(task(picture, job=job) for job in (JOB + "\n", JOB.replace("2", "２"), JOB + "/../../../outside")),
            *(task(picture, number=number) for number in (-1, 10**5, 10**18, 10**30)),
            *(task(path) for path in ("", "-x", "picture.png", f"{inputs}/\0.png", f"/{'x' * 5000}")),
            task("PATH").replace(b"PATH", f"{inputs}/\\ud800.png".encode()),
            task(picture, work={**msgspec.to_builtins(EVERYTHING), "points": [[1, 1]] * 50_000}),
            task(picture, **{ESCAPE: 1, "kind": ESCAPE, "work": {"kind": ESCAPE}}),
        ]
        config = JobsConfig(inputs=[str(inputs)], results=str(results))
        with caplog.at_level(logging.WARNING):
            (failed,) = work_off(server, config, messages, [tmp_path / "elsewhere.png"])
        assert failed.tries >= MAX_TRIES  # more where a busy machine lets a file be handed out again
        assert "jobs.inputs" in (failed.error or "")
        dropped = [record.getMessage() for record in caplog.records if "is dropped" in record.getMessage()]
        numbers = [re.search(r"strange\.(\d+)", text) for text in dropped]
        assert {int(number[1]) for number in numbers if number} == set(range(len(messages)))
        assert all(text.isprintable() and len(text) < 1000 for text in dropped)
        assert not outside.exists()
        assert not results.exists()

    @pytest.mark.parametrize(
        ("inputs", "child", "says"),
        [
            ("/\0", None, "ValueError: .*null"),  # any fault is one of this file alone
            ("/", TOO_MANY, "its 400 results are too many for NATS: have a folder, jobs.results"),
            ("/", ESCAPES, r"^\\x1b\]0;mine\\x07e{100}"),
            ("/", "\n    sys.exit()", "the process that worked on it ended"),
        ],
    )
    def test_that_fail_in_any_way_are_listed_with_the_reason(
        self,
        server: NatsServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        inputs: str,
        child: str | None,
        says: str,
    ) -> None:
        monkeypatch.setattr("tracker.fleet.worker.RETRY_S", 0.01)
        if child is not None:
            script = CHILD.replace("\n    {work}", child)
            monkeypatch.setattr("tracker.fleet.child.COMMAND", [sys.executable, "-c", script])
        (failed,) = work_off(server, JobsConfig(inputs=[inputs]), [], [tmp_path / "picture.png"])
        assert failed.tries >= MAX_TRIES  # more where a busy machine lets a file be handed out again
        assert re.search(says, failed.error or "")


def test_a_fault_of_the_box_itself_does_not_end_its_work(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it is: here no outcome can be written. The files are tried a few times, and then given up."""
    monkeypatch.setattr("tracker.fleet.worker.RETRY_S", 0.01)

    async def work(there: Files) -> list[FileDone]:
        job = await files.submit(there, EVERYTHING, [tmp_path / "first.png", tmp_path / "second.png"])
        faulty = msgspec.structs.replace(there, jobs=None)

        async def is_empty() -> bool:
            return await queued(there.js) == 0

        async with worker_of(faulty, JobsConfig(inputs=["/nowhere"])) as running:
            await until(is_empty)
            assert not running.done()
        return await files.failures(there, job.job)

    with caplog.at_level(logging.ERROR):
        lost = ask(server, work)
    given_up = [text for text in caplog.messages if "is given up after 6 tries: AttributeError" in text]
    assert {name for name in ("first", "second") for text in given_up if name in text} == {"first", "second"}
    assert [one.error for one in lost] == [files.LOST] * 2


async def _fill_up(there: Files) -> None:
    """Nothing more goes into the bucket of jobs."""
    info = await there.js.stream_info(f"KV_{JOBS}")
    await there.js.update_stream(info.config.evolve(max_bytes=info.state.bytes + 1))


def test_outcomes_that_nats_never_takes_are_tried_a_few_times_and_then_said_to_be_lost(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.fleet.worker.RETRY_S", 0.01)

    async def work(there: Files) -> str:
        job = await files.submit(there, EVERYTHING, [tmp_path / "first.png", tmp_path / "second.png"])
        await _fill_up(there)

        async def is_empty() -> bool:
            return await queued(there.js) == 0

        (before,) = await files.progress(there)
        async with worker_of(there, JobsConfig(inputs=["/nowhere"])):
            await until(is_empty)
        (after,) = await files.progress(there)
        assert (before.files, before.failed, before.queued) == (2, 0, 2)
        assert (after.files, after.failed, after.queued) == (2, 2, 0)
        return job.job

    listed = told(server, ask(server, work)).stdout
    assert [f"file {number} of the job" in listed for number in range(3)] == [True, True, False]
    assert "it left the queue without an outcome, which NATS did not take" in listed


def test_an_outcome_that_is_too_large_for_nats_is_listed_as_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server may take less than others."""
    monkeypatch.setattr("tracker.fleet.worker.RETRY_S", 0.01)
    script = CHILD.replace("\n    {work}", TOO_MANY.replace("400", "10"))
    monkeypatch.setattr("tracker.fleet.child.COMMAND", [sys.executable, "-c", script])
    settings = tmp_path / "nats.conf"
    settings.write_text("max_payload: 8192\n")
    with nats_server(tmp_path, ["-c", str(settings)]) as small:
        (failed,) = work_off(small, JobsConfig(inputs=["/"]), [], [tmp_path / "picture.png"])
    assert failed.error == "NATS does not take it: maximum payload exceeded"


def told(server: NatsServer, *words: str) -> Result:
    return CliRunner().invoke(trackerd, ["fleet", "jobs", *words, "--nats", server.url])


def record(**fields: Any) -> bytes:
    return json.dumps({"path": "/p.png", "box": "north", "seconds": 1, "tries": 1, **fields}).encode()


STRANGE_RECORDS = [
    *JUNK,
    *(record(results=[name]) for name in ("a\0b", "", ".", "..", "a/..", "../a", "/a", "a//b", "a/", "x" * 300)),
    record(results=["../outside"], error=None),
    record(error="e" * 5000),
    record(box=ESCAPE),
    record(path="p.png"),
]


@pytest.fixture
def jobs(server: NatsServer) -> NatsServer:
    """A job of which one file is done and one failed, among what strangers wrote."""

    async def write(there: Files) -> None:
        async def put(key: str, data: bytes) -> None:
            await there.js.publish(f"$KV.{JOBS}.{key}", data)

        job = Job(job=JOB, time=1.0, work=EVERYTHING, files=2)
        await put(JOB, msgspec.json.encode(job))
        await put(f"{JOB}.done.0", record(results=["000000-p/coco.json"]))
        await put(f"{JOB}.failed.1", record(error=f"{ESCAPE}broken"))
        await there.results.put(f"{JOB}/000000-p/coco.json", b"of the job")
        for number, data in enumerate(STRANGE_RECORDS):
            other = f"20261126-130000-{number:06x}"
            await put(other, data)
            await put(f"{JOB}.done.{100 + number}", data)
            await put(f"{JOB}.failed.{100 + number}", data)
        for key in (ESCAPE, f"{JOB}.{ESCAPE}", f"{JOB}.failed.{ESCAPE}", f"{JOB}.done.01", "a=b"):
            await put(key, record(results=["000009-strange/coco.json"]))
        await put("20261126-140000-000000", msgspec.json.encode(job))  # says that it is another one

    ask(server, write)
    return server


class TestJobs:
    def test_are_listed_whatever_else_is_in_the_bucket(self, jobs: NatsServer) -> None:
        result = told(jobs, "--json")
        (listed,) = map(json.loads, result.stdout.splitlines())
        assert (listed["job"], listed["files"]) == (JOB, 2)
        table = told(jobs)
        assert table.exit_code == 0
        assert JOB in table.stdout

    def test_tell_what_failed_without_what_a_terminal_obeys(self, jobs: NatsServer) -> None:
        result = told(jobs, JOB)
        assert result.exit_code == 0
        assert "\\x1b]0;mine\\x07broken" in result.stdout
        assert "\x1b" not in result.output
        assert len(result.stdout.splitlines()) == 2

    def test_are_fetched_past_strange_records(self, jobs: NatsServer, tmp_path: Path) -> None:
        folder = tmp_path / "inner" / "fetched"
        result = told(jobs, JOB, "--fetch", str(folder))
        assert (result.exit_code, "1 file in" in result.output) == (0, True), result.output
        assert [path.name for path in tmp_path.rglob("*.json")] == ["coco.json"]
        assert (folder / "000000-p" / "coco.json").read_bytes() == b"of the job"
        assert not (folder.parent / "outside").exists()

    def test_of_which_some_results_are_elsewhere_are_fetched_as_far_as_they_are_here(
        self, jobs: NatsServer, tmp_path: Path
    ) -> None:
        async def write(there: Files) -> None:
            await there.jobs.put(f"{JOB}.done.2", record(results=["000002-p"]))

        ask(jobs, write)
        with pytest.raises(
            BadRequest, match=r"'000002-p' is not in NATS; it is where jobs\.results of box north says"
        ):
            ask(jobs, lambda there: files.fetch(there, JOB, tmp_path / "fetched"))
        assert (tmp_path / "fetched" / "000000-p" / "coco.json").exists()

    @pytest.mark.parametrize(
        "job", ["nope", "a b", "*", ">", "", JOB[:-1] + "d", f"{JOB}.failed", f"{JOB}\n", ESCAPE]
    )
    def test_that_are_not_there_are_said_to_be_unknown(self, jobs: NatsServer, tmp_path: Path, job: str) -> None:
        for more in ([], ["--fetch", str(tmp_path / "fetched")]):
            error = told(jobs, job, *more).exception
            assert isinstance(error, BadRequest)
            assert "the fleet has no job" in error.message
        assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize(
    ("strange", "says"),
    [("\udcff.png", "its name is not text in UTF-8"), ("x" * 5000, "more than 4096 characters")],
)
def test_files_that_cannot_be_told_to_a_box_are_refused_before_any_is_submitted(
    server: NatsServer, tmp_path: Path, strange: str, says: str
) -> None:
    async def submit(there: Files) -> tuple[int, int]:
        with pytest.raises(BadRequest, match=says):
            await files.submit(there, EVERYTHING, [tmp_path / "sound.png", tmp_path / strange])
        return await queued(there.js), len(await files.progress(there))

    assert ask(server, submit) == (0, 0)
