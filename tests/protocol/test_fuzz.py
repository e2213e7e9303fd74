"""A short run of the fuzzer; `tests/helpers/fuzzing.py` says how to run it for longer."""

import subprocess
import sys
from pathlib import Path

import msgpack
import pytest

from protocol.test_codec import MINIMAL_ARGS

FUZZER = Path(__file__).parents[1] / "helpers/fuzzing.py"
OTHERS = [  # a mask, a message, a reply, a record
    b"\x01\x08\x08d0",
    b"\x02\x81\xa6stream\xa4cam1",
    b"\x03\x81\xa2ok\xc3",
    b'\x04{"owner":"1.1","box":"b","frames_end":1,"epochs_end":1}',
]
RUNS = 300_000


def test_bytes_of_strangers_raise_nothing_that_is_not_promised(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris has no wheel for this machine")
    for number, (op, args) in enumerate(MINIMAL_ARGS.items()):
        seed = msgpack.packb({"v": 1, "id": number, "op": op, "args": args})
        (tmp_path / op).write_bytes(b"\0" + seed)
    for number, seed in enumerate(OTHERS):
        (tmp_path / f"other{number}").write_bytes(seed)
    options = [
        f"-runs={RUNS}",
        "-seed=1",
        "-max_len=4096",
        "-rss_limit_mb=0",
    ]  # it counts what our process had as its
    command = [sys.executable, str(FUZZER), str(tmp_path), *options]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    assert f"Done {RUNS} runs" in run.stderr
