"""The daemon end to end: `trackerd serve` as a process of its own on a rendered 1080p film at real pace, objects of
about 300x300 pixels, and one subscriber that takes their outlines.

A frame's latency goes from when it was decoded to when its message was received and read. Without the model's own
time (`model`, resizing included) and without what the frame waited while the model was at other frames it is
`beyond`, which has three parts: `begin` until the model began, `shape` from its end to sending, `wire` to the
reader. Columns with p50 and p99 are milliseconds by the clock.

`cpu_beside` is processor milliseconds a frame of what every frame passes through beside the model: `delivery`
(geometry, records) and `sockets` by their threads' names, and `loop`, what the main thread used outside of the
model's steps. `cpu_looks` and `cpu_watch` go by the clock: what objects look like, every two seconds of each, and
twenty looks a second at the process itself. `cpu_model` is the steps, resizing included, and torch's own threads,
`cpu_decode` the decoder's threads.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml

from benches.report import Row
from tracker.client import Client
from tracker.errors import Timeout
from tracker.images.video_writer import VideoWriter
from tracker.masks.types import U8
from tracker.protocol.messages import Status, Tracks

SIZE_WH = (1920, 1080)
MAX_OBJECTS = 8
FILM_S = 4  # then it begins again, where it began
WARM_UP_STEPS = 20  # the objects' memories are full
START_S, QUIET_S, STOP_S = 300.0, 30.0, 20.0


@dataclass
class Heard:
    """What was measured between two status messages."""

    tracks: list[tuple[int, Tracks]] = field(default_factory=list)  # with the monotonic time of arrival
    steps_cpu_ms: float = 0.0
    cpu_ns: Counter[str] = field(default_factory=Counter)  # of the daemon's parts


def run(args: argparse.Namespace, objects: int) -> Row:
    if not 1 <= objects <= MAX_OBJECTS:
        raise SystemExit(f"bench daemon: --objects: {objects} do not fit side by side; 1 to {MAX_OBJECTS} do")
    with tempfile.TemporaryDirectory() as folder:
        film(Path(folder) / "film.mp4", objects, args.fps)
        with daemon(args, Path(folder)) as (client, pid):
            for stream in range(args.streams):
                for k in range(objects):
                    client.add(f"cam{stream}", box=_box(k))
            heard = listen(client, pid, args.streams, args.seconds)
    about: Row = {key: getattr(args, key) for key in ("model", "mode", "threads", "streams", "fps")}
    return about | {"objects": objects} | latency(heard) | processor(heard)


def film(path: Path, objects: int, fps: int) -> None:
    """A seamless film of lumpy objects, each of its own colour, that sway in their places before a dark ground."""
    ground_hwc: U8 = np.asarray(
        cv2.resize(np.random.default_rng(0).integers(20, 70, (27, 48, 3), np.uint8), SIZE_WH), np.uint8
    )
    with VideoWriter(path, SIZE_WH, fps) as video:
        for frame in range(FILM_S * fps):
            picture_hwc = ground_hwc.copy()
            for k in range(objects):
                _draw(picture_hwc, k, 2 * math.pi * frame / (FILM_S * fps))
            video.write(picture_hwc)


def _draw(picture_hwc: U8, k: int, phase: float) -> None:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = 145 * (1 + 0.12 * np.sin(3 * angle + k + phase) + 0.05 * np.sin(7 * angle + 2 * k))
    left, top = _place(k)
    x, y = left + 30 * math.sin(phase + k), top + 30 * math.cos(phase + 2 * k)
    ring = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1).round().astype(np.int32)
    hue = np.array([[[180 * k // MAX_OBJECTS, 150, 230]]], np.uint8)
    cv2.fillPoly(picture_hwc, [ring], cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist(), cv2.LINE_AA)


def _place(k: int) -> tuple[int, int]:
    return 240 + 480 * (k % 4), 270 + 540 * (k // 4)


def _box(k: int) -> tuple[float, float, float, float]:
    x, y = _place(k)
    return x - 190.0, y - 190.0, x + 190.0, y + 190.0


@contextmanager
def daemon(args: argparse.Namespace, folder: Path) -> Iterator[tuple[Client, int]]:
    """`trackerd serve` on the film, once it decodes; a client of it, and its process id."""
    stream = {"url": str(folder / "film.mp4"), "pace": "real", "loop": True, "buffer": {"seconds": 1.0}}
    config = {
        "model": {"name": args.model, "device": args.device, "image_size": args.image_size},
        "engine": {"mode": args.mode, "threads": args.threads},
        "control": {"endpoint": f"ipc://{folder}/control"},
        "publish": {"endpoint": f"ipc://{folder}/publish"},
        "streams": {f"cam{n}": stream for n in range(args.streams)},
    }
    path = folder / "trackerd.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [str(Path(sys.executable).with_name("trackerd")), "serve", "-c", str(path)]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with Client(config["control"]["endpoint"]) as client:
                _wait_for(client, process)
                yield client, process.pid
        except BaseException:
            process.kill()
            print((folder / "log").read_text(), file=sys.stderr)
            raise
        process.terminate()
        process.wait(STOP_S)


def _wait_for(client: Client, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_S
    with Client(client.control, timeout_s=0.5) as asking:
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                if all(stream.decoded for stream in asking.streams().streams):
                    return
            except Timeout:
                continue
    raise SystemExit("bench daemon: the daemon does not answer")


def listen(client: Client, pid: int, streams: int, seconds: float) -> Heard:
    """From the first status after the warm-up to the first one `seconds` later."""
    heard, steps, began_s = Heard(), Counter[str](), 0.0
    with client.subscribe(topics=["tracks", "status"], timeout_s=QUIET_S) as messages:
        for message in messages:
            arrived_ns, body = time.monotonic_ns(), message.body
            if isinstance(body, Tracks):
                steps[body.stream] += 1
                if began_s:
                    heard.tracks.append((arrived_ns, body))
            elif isinstance(body, Status):
                if began_s:
                    heard.steps_cpu_ms += body.steps.cpu_ms
                    if time.monotonic() > began_s + seconds:
                        heard.cpu_ns = processor_ns(pid) - heard.cpu_ns
                        return heard
                elif len(steps) == streams and min(steps.values()) >= WARM_UP_STEPS:
                    began_s, heard.cpu_ns = time.monotonic(), processor_ns(pid)
    raise AssertionError("a subscription never ends by itself")


def processor_ns(pid: int) -> Counter[str]:
    """What each part of a process has used so far, by its threads' names."""
    used_ns: Counter[str] = Counter()
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, ran_ns = (task / "comm").read_text().strip(), (task / "schedstat").read_text().split()[0]
        except OSError:  # a decoder's thread that has just ended
            continue
        used_ns["main" if task.name == str(pid) else _part(name)] += int(ran_ns)
    return used_ns


def _part(name: str) -> str:
    if name.startswith(("source-", "watch-", "av:")):
        return "decode"
    if name in ("control", "publish") or name.startswith("ZMQ"):
        return "sockets"
    return name if name in ("delivery", "labels", "looks", "watch") else "workers"


def latency(heard: Heard) -> Row:
    arrived = np.array([arrived_ns for arrived_ns, _ in heard.tracks]) / 1e6
    decoded = np.array([tracks.mono_ns for _, tracks in heard.tracks]) / 1e6
    began, ended = np.array([tracks.model_mono_ns for _, tracks in heard.tracks]).T / 1e6
    sent = np.array([tracks.published_mono_ns for _, tracks in heard.tracks]) / 1e6
    busy = np.array([_overlap(began, ended, *wait) for wait in zip(decoded, began, strict=True)])
    parts = {
        "latency": arrived - decoded,
        "model": ended - began,
        "beyond": arrived - decoded - (ended - began) - busy,
        "begin": began - decoded - busy,
        "shape": sent - ended,
        "wire": arrived - sent,
    }
    records = [record for _, tracks in heard.tracks for record in tracks.objects]
    row: Row = {"frames": len(heard.tracks), "visible": np.mean([r.state == "visible" for r in records]).round(2)}
    row["mean_area"] = round(np.mean([record.area for record in records]))
    for name, values in parts.items():
        row |= {f"{name}_p{n}": round(float(np.percentile(values, n)), 1) for n in (50, 99)}
    return row


def _overlap(began: np.ndarray, ended: np.ndarray, start: float, end: float) -> float:
    """How much of a span the model was at work; streams that share a step have it once."""
    steps = np.unique(np.stack([began, ended], 1), axis=0)
    return float((np.minimum(steps[:, 1], end) - np.maximum(steps[:, 0], start)).clip(0).sum())


def processor(heard: Heard) -> Row:
    ms = defaultdict(float, {part: used_ns / 1e6 for part, used_ns in heard.cpu_ns.items()})
    ms["loop"] = ms["main"] - heard.steps_cpu_ms
    ms["model"] = heard.steps_cpu_ms + ms["workers"]
    ms["beside"] = ms["loop"] + ms["delivery"] + ms["sockets"] + ms["labels"]
    frames = len(heard.tracks)
    return {
        f"cpu_{part}": round(ms[part] / frames, 2)
        for part in ("beside", "loop", "delivery", "sockets", "looks", "watch", "model", "decode")
    }
