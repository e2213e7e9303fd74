"""A library of pictures: indexed, searched, gone on with; what is refused."""

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from tracker.cli.trackerd import trackerd
from tracker.errors import BadRequest, TrackerError
from tracker.offline import index

if not (Path(__file__).parents[2] / "tracker" / "models" / "nano.safetensors").exists():
    pytest.skip("the bundled weights are not there", allow_module_level=True)

COLOURS = {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 210)}
BOX = (40, 40, 100, 100)
SMALL = ("--image-size", "128", "--device", "cpu")


def photo(folder: Path, name: str, colour: str, seed: int) -> str:
    rng = np.random.default_rng(seed)
    picture = cv2.resize(rng.integers(70, 140, (6, 8, 3), np.uint8), (160, 120))
    cv2.circle(picture, (70, 70), 28, COLOURS[colour], -1)
    Image.fromarray(np.asarray(picture, np.uint8)).save(folder / name)
    return str(folder / name)


def run(*words: str) -> Result:
    return CliRunner().invoke(trackerd, [*words, *SMALL])


def hits(*words: str) -> list[dict[str, Any]]:
    result = run("similar", *words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found: list[dict[str, Any]] = json.loads(result.stdout)["hits"]
    return found


@pytest.fixture
def library(tmp_path: Path) -> list[str]:
    return [photo(tmp_path, f"{colour}-{k}.png", colour, k) for k in range(2) for colour in COLOURS]


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ("0", "--image-size: must be a whole number of at least 64"),
        ("320000", "--image-size: must be a whole number of at most 2048"),
        ("65", "--image-size: must be a whole number, a multiple of 32"),
    ],
)
def test_a_size_that_no_model_works_at_is_refused(tmp_path: Path, size: str, words: str) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    command = ["index", str(tmp_path / "a.png"), "--everything", "--db", str(tmp_path / "db"), "--image-size", size]
    result = CliRunner().invoke(trackerd, command)
    assert isinstance(result.exception, BadRequest)
    assert words in str(result.exception)


def test_what_looks_alike_comes_first(tmp_path: Path, library: list[str]) -> None:
    db, box = str(tmp_path / "looks.db"), ",".join(map(str, BOX))
    assert run("index", *library, "--box", box, "--db", db).exit_code == 0
    query = photo(tmp_path, "query.png", "green", 9)
    found = hits(query, "--box", box, "--db", db)
    assert [Path(hit["path"]).name for hit in found[:2]] in (
        ["green-0.png", "green-1.png"],
        ["green-1.png", "green-0.png"],
    )
    assert found[0]["path"] in library
    assert (found[0]["box"], found[0]["kind"]) == (list(BOX), "appearance")
    assert [hit["score"] for hit in found] == sorted((hit["score"] for hit in found), reverse=True)
    table = run("similar", query, "--box", box, "--db", db)
    assert "green-0.png" in table.stdout


def test_an_interrupted_index_goes_on(tmp_path: Path, library: list[str]) -> None:
    db = str(tmp_path / "looks.db")
    assert run("index", *library[:2], "--db", db).stdout == f"2 pictures indexed, 0 there already; written: {db}\n"
    for path in library[:2]:
        Path(path).unlink()  # so that a second look at them would fail
    more = len(library) - 2
    assert f"{more} pictures indexed, 2 there already" in run("index", *library, "--db", db).stdout
    assert len(hits(library[2], "--db", db)) == len(library)


def test_a_list_and_everything(tmp_path: Path, library: list[str]) -> None:
    db, listed = str(tmp_path / "looks.db"), tmp_path / "list.jsonl"
    listed.write_text("\n".join(json.dumps({"path": path, "box": BOX}) for path in library))
    assert run("index", "--list", str(listed), "--db", db).exit_code == 0
    assert run("index", library[0], "--everything", "--points-per-side", "4", "--db", db).exit_code == 0
    assert {hit["path"] for hit in hits(library[3], "--box", "40,40,100,100", "--db", db)} == set(library)


def test_a_folder_is_its_pictures(tmp_path: Path, library: list[str]) -> None:
    db, folder = str(tmp_path / "looks.db"), Path(library[0]).parent
    assert run("index", str(folder), "--db", db).exit_code == 0
    assert {hit["path"] for hit in hits(library[0], "--db", db)} >= set(library)


def test_a_name_that_is_no_text_is_told_and_the_rest_goes_on(tmp_path: Path, library: list[str]) -> None:
    db, odd = str(tmp_path / "looks.db"), os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png")
    shutil.copy(library[0], odd)
    result = run("index", odd, library[0], "--db", db)
    assert "1 of 2 pictures could not be indexed" in str(result.exception)
    assert "its name is not UTF-8" in result.output
    assert [hit["path"] for hit in hits(library[1], "--db", db)] == library[:1]


def test_relative_paths_come_back_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photo(tmp_path, "a.png", "red", 1)
    assert run("index", "./a.png", "--db", "looks.db").exit_code == 0
    assert hits("a.png", "--db", "looks.db")[0]["path"] == "./a.png"


def refusal(*words: str) -> str:
    result = run(*words)
    assert result.exit_code != 0
    return str(result.exception) if isinstance(result.exception, TrackerError) else result.output


def test_refusals(tmp_path: Path, library: list[str]) -> None:
    db = str(tmp_path / "looks.db")
    other = tmp_path / "other.db"
    other.write_bytes(b"no database" * 1000)
    listed = tmp_path / "list.jsonl"
    listed.write_text('{"path": 3}')
    assert "no pictures" in refusal("index", "--db", db)
    assert "not both" in refusal("index", library[0], "--box", "0,0,9,9", "--everything", "--db", db)
    assert "is not there" in refusal("similar", library[0], "--db", db)
    assert "is no index" in refusal("index", library[0], "--db", str(other))
    assert "line 1" in refusal("index", "--list", str(listed), "--db", db)
    listed.write_text(json.dumps({"path": library[0], "bbox": BOX}))
    assert "bbox" in refusal("index", "--list", str(listed), "--db", db)
    listed.write_bytes(b'{"path": "\xff"}')
    assert "it is not text in UTF-8" in refusal("index", "--list", str(listed), "--db", db)
    listed.write_text(json.dumps({"path": library[0], "box": BOX}))
    assert "not both" in refusal("index", "--list", str(listed), "--everything", "--db", db)
    empty = tmp_path / "empty.db"
    empty.touch()
    assert "database of something else" in refusal("index", "--from", str(empty), "--db", db)
    assert not empty.stat().st_size
    assert "1 of 2 pictures" in refusal("index", library[0], str(tmp_path / "gone.png"), "--db", db)
    assert "unable to open" in refusal("index", library[0], "--db", str(tmp_path / "gone" / "looks.db"))


def test_a_disk_that_takes_nothing_more_is_told(tmp_path: Path, library: list[str]) -> None:
    db = str(tmp_path / "looks.db")
    assert run("index", library[0], "--db", db).exit_code == 0
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))  # in place of a disk
    try:
        assert f"{db}: disk I/O error" in refusal("index", library[1], "--db", db)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_database_of_something_else_stays_as_it_is(tmp_path: Path, library: list[str]) -> None:
    places = tmp_path / "places.db"
    with closing(apsw.Connection(str(places))) as theirs:
        theirs.execute("CREATE TABLE places (name TEXT)")
    before = places.read_bytes()
    for words in (
        ["index", library[0], "--db", str(places)],
        ["index", "--from", str(places), "--db", str(tmp_path / "looks.db")],
    ):
        assert "database of something else" in refusal(*words)
    assert places.read_bytes() == before


@contextmanager
def writing(db: str, while_so: str) -> Iterator[None]:
    """Another program that has begun to write to a database, and goes on for a while."""
    script = "import apsw, sys, time; theirs = apsw.Connection(sys.argv[1]); theirs.execute('BEGIN IMMEDIATE'); "
    command = [sys.executable, "-c", f"{script}print(flush=True); {while_so}", db]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        program.stdout.readline()
        yield
        program.stdin.close()


def test_another_program_that_writes_is_waited_for(
    tmp_path: Path, library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db = str(tmp_path / "looks.db")
    assert run("index", library[0], "--db", db).exit_code == 0
    with writing(db, "sys.stdin.read()"):
        assert hits(library[0], "--db", db)  # reading goes on
        monkeypatch.setattr(index, "BUSY_MS", 1000)
        assert "another program has been writing to it for 1 s" in refusal("index", library[1], "--db", db)
        monkeypatch.undo()
    with writing(db, "time.sleep(2)"):
        assert run("index", library[1], "--db", db).exit_code == 0
    assert len(hits(library[0], "--db", db)) == 2


def test_another_models_looks_are_left_out_and_said(tmp_path: Path, library: list[str]) -> None:
    db = str(tmp_path / "looks.db")
    assert CliRunner().invoke(trackerd, ["index", library[0], "--db", db, "--image-size", "64"]).exit_code == 0
    result = run("similar", library[0], "--db", db, "--json")
    assert json.loads(result.stdout)["hits"] == []
    assert "1 looks are of another model" in result.stderr


def test_indexes_are_taken_over_into_one(tmp_path: Path, library: list[str]) -> None:
    parts, db, box = tmp_path / "parts", str(tmp_path / "all.db"), ",".join(map(str, BOX))
    for number, picture in enumerate(library):
        (parts / str(number)).mkdir(parents=True)
        assert run("index", picture, "--box", box, "--db", str(parts / str(number) / "looks.db")).exit_code == 0
    for told in ("6 pictures out of 6 indexes", "0 pictures out of 6 indexes"):  # the second time all are there
        result = run("index", "--from", str(parts), "--db", db)
        assert (result.exit_code, told in result.output) == (0, True), result.output
    found = hits(photo(tmp_path, "query.png", "green", 9), "--box", box, "--db", db)
    assert {Path(hit["path"]).name for hit in found[:2]} == {"green-0.png", "green-1.png"}
    assert sorted(hit["path"] for hit in found) == sorted(library)
    assert isinstance(run("index", "--from", db, "--db", db).exception, TrackerError)


def test_a_single_picture_that_cannot_be_indexed_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    result = run("index", str(tmp_path / "broken.png"), "--db", str(tmp_path / "looks.db"))
    assert isinstance(result.exception, TrackerError)
    assert "is not a picture that can be read" in str(result.exception)
