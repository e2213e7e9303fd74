"""`tools/bench`: that each kind runs and says what it promises. How fast anything is, no test asks."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benches.daemon import Heard, latency, processor
from benches.roofline import Work, counted, work
from helpers.leaks import ROOT
from helpers.preloaded import Forked, command
from tracker.engine.precision import Precision
from tracker.protocol.messages import Tracks
from tracker.protocol.records import ObjectRecord

pytestmark = pytest.mark.usefixtures("preloaded")
MS = 1_000_000


def bench(folder: Path, *arguments: str) -> tuple[int, str]:
    """The exit status, and all that was said."""
    log = folder / "log"
    with Forked(command, "benches.__main__", *arguments, log=log, cwd=folder) as process:
        return process.wait(280), log.read_text()


def figures(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    code, said = bench(tmp_path, *arguments, "--json", str(tmp_path / "figures.json"))
    assert code == 0, said
    about = json.loads((tmp_path / "figures.json").read_text())
    (row,) = about["rows"]
    assert about["machine"]["cores"] >= 1
    assert said.splitlines()[-1] == "| " + " | ".join(str(value) for value in row.values()) + " |"
    return row


def test_geometry(tmp_path: Path) -> None:
    row = figures(tmp_path, "geometry", "--rounds", "1")
    assert row["objects"] == 8
    assert row["mean_area"] == pytest.approx(300 * 300 * 0.8, rel=0.1)


def test_the_engine_beside_the_official_predictor(tmp_path: Path) -> None:
    row = figures(tmp_path, "engine", "--image-size", "64", "--objects", "1", "--frames", "1", "--threads", "1")
    assert row["ours_cpu_ms"] > 0
    assert row["official_cpu_ms"] > 0


def test_the_roofline(tmp_path: Path) -> None:
    asked = ["--image-size", "64", "--objects", "2", "--frames", "1", "--threads", "1"]
    row = figures(tmp_path, "roofline", *asked)
    assert row["floor_ms"] > 0
    assert row["engine_ms"] > row["floor_ms"]


def test_what_products_and_attention_need_is_counted() -> None:
    a, b = torch.empty(3, 4, device="meta"), torch.empty(4, 5, device="meta")
    assert counted(lambda: a @ b + 1) == Work(2 * 3 * 4 * 5, 3 * 4 + 4 * 5 + 3 * 5)
    q, kv = torch.empty(2, 1, 10, 8, device="meta"), torch.empty(2, 1, 30, 8, device="meta")
    attention = counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, kv, kv))
    assert attention == Work(2 * 2 * 10 * 30 * 16, 2 * (10 + 30 + 30 + 10) * 8)


def test_objects_share_the_encoder_and_nothing_else() -> None:
    one, many = (work("nano", 64, objects) for objects in (1, 16))
    assert one["encoder"] == many["encoder"]
    assert many["attention"].flops == 16 * one["attention"].flops
    assert many["attention"].numbers < 16 * one["attention"].numbers  # weights are read once


def test_soak(tmp_path: Path) -> None:
    row = figures(tmp_path, "soak", "--image-size", "64", "--objects", "1", "--frames", "30", "--threads", "1")
    assert row["tracks_growth_bytes"] >= 0


def test_precision(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, most in (("frames", 255), ("masks", 1)):
        (tmp_path / "clip" / name).mkdir(parents=True)
        for t in range(3):
            picture = rng.integers(0, most, (48, 64), np.uint8, endpoint=True)
            Image.fromarray(picture).save(tmp_path / "clip" / name / f"{t:02}.png")
    small = ["--image-size", "64", "--threads", "1"]
    code, said = bench(tmp_path, "precision", "--folder", str(tmp_path), *small, "--json", "figures.json")
    assert code == 0, said
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["bfloat16"] for row in rows] == ["none", *Precision._fields, "fast", "everything"]
    assert rows[0]["lowest"] == 1
    assert all(0 <= row["lowest"] <= row["mean"] <= 1 and row["cpu_ms_8"] > 0 for row in rows)
    only = ["--only", "fast", "--json", "figures.json"]
    assert bench(tmp_path, "precision", "--folder", str(tmp_path), *small, *only)[0] == 0
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert [row["bfloat16"] for row in rows] == ["none", "fast"]


def test_the_daemon_end_to_end(tmp_path: Path) -> None:
    asked = ["--objects", "2", "--streams", "2", "--fps", "10", "--seconds", "1", "--threads", "1"]
    row = figures(tmp_path, "daemon", "--image-size", "128", *asked)
    assert row["frames"] >= 2
    assert row["latency_p50"] >= row["model_p50"] > 0
    # Decoders are new when the film begins again; a second has too few ticks of the clock to part loop from model.
    assert min(row["cpu_loop"] + row["cpu_model"], row["cpu_delivery"], row["cpu_model"]) > 0


def test_no_more_objects_than_have_room_on_the_film() -> None:
    done = subprocess.run([ROOT / "tools/bench", "daemon", "--objects", "9"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "9 do not fit side by side; 1 to 8 do" in done.stderr


def heard_of(*frames: tuple[int, int, int, int, int]) -> Heard:
    """Frames by when they were decoded, the model began and ended, when they were sent and received, in ms."""
    record = ObjectRecord(object=1, state="visible", area=9)
    about: dict[str, Any] = {"stream": "cam", "epoch": 0, "pts": None, "camera_time": None, "size": (4, 3)}
    heard = Heard()
    for n, (decoded, began, ended, sent, received) in enumerate(frames):
        clocks: dict[str, Any] = {"mono_ns": decoded * MS, "model_mono_ns": (began * MS, ended * MS)}
        about |= {"frame": n, "step": n, "dropped": 0, "time": 0.0, "published_mono_ns": sent * MS}
        heard.tracks.append((received * MS, Tracks(objects=[record], **clocks, **about)))
    return heard


def test_what_a_frame_waits_for_the_model_is_the_models_own_time() -> None:
    row = latency(heard_of((0, 2, 52, 55, 56), (10, 54, 104, 107, 108)))
    assert row["latency_p50"] == pytest.approx((56 + 98) / 2)
    assert row["model_p50"] == 50
    assert row["begin_p50"] == 2  # of the second frame's 44 ms, the model was at the first for 42
    assert row["beyond_p50"] == 6
    assert (row["shape_p50"], row["wire_p50"]) == (3, 1)


def test_streams_that_share_a_step_wait_for_it_once() -> None:
    row = latency(heard_of((0, 0, 50, 50, 50), (10, 60, 90, 90, 90), (10, 60, 90, 90, 90)))
    assert row["begin_p99"] == pytest.approx(10, abs=0.1)


def test_processor_time_by_part() -> None:
    heard = heard_of((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
    heard.steps_cpu_ms = 80.0
    parts_ms = {"main": 84, "delivery": 3, "sockets": 1, "workers": 20, "decode": 12}
    heard.cpu_ns = Counter({part: used_ms * 1_000_000 for part, used_ms in parts_ms.items()})
    row = processor(heard)
    assert row["cpu_loop"] == 2
    assert row["cpu_model"] == 50
    assert row["cpu_decode"] == 6
    assert row["cpu_beside"] == 4
