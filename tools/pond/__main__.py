"""The demo: a rendered film, the real daemon on it at real pace, two prompts, and how well it followed them."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console

from pond.report import contact_sheet, drawn, judge, print_table, write_jsonl
from pond.scene import FPS, FRAMES, HEIGHT, SECONDS, WIDTH, render
from tracker.client import Client, Subscription
from tracker.errors import Timeout
from tracker.images.video_writer import VideoWriter
from tracker.protocol.replies import Event, Tracks

U8 = NDArray[np.uint8]
OUT = Path(__file__).resolve().parents[2] / "out" / "demo"
STREAM = "pond"
PAGE = "127.0.0.1:5580"
START_S, QUIET_S, STOP_S = 120.0, 5.0, 20.0
BY_POINT, BY_BOX = 1, 4  # object ids; 4 is blue in the overlay, and 2 would be as green as the leaves
FISH = {BY_POINT: 1, BY_BOX: 2}  # by their numbers in the truth

console = Console()


@dataclass
class Heard:
    """What the subscriber received, each tracks message with the monotonic time of its arrival."""

    tracks: list[tuple[int, Tracks]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    first: threading.Event = field(default_factory=threading.Event)

    def listen(self, subscription: Subscription) -> None:
        """Until nothing comes any more."""
        try:
            for message in subscription:
                if isinstance(message.body, Tracks):
                    self.tracks.append((time.monotonic_ns(), message.body))
                    self.first.set()
                elif isinstance(message.body, Event):
                    self.events.append(message.body)
        except Timeout:
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for what it leaves (default: out/demo)")
    parser.add_argument("--watch", action="store_true", help="show the pond on the live page instead, to click on")
    parser.add_argument("--page", default=PAGE, help=f"where the page listens, with --watch (default: {PAGE})")
    arguments = parser.parse_args()
    out = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)

    console.print(
        f"rendering {SECONDS} s of a pond, {WIDTH}x{HEIGHT}, {FPS} frames/s, with the truth of every pixel"
    )
    pictures, truth_nhw = film(out / "pond.mp4")
    if arguments.watch:
        watch(out, arguments.page)
        return
    with tempfile.TemporaryDirectory() as sockets, daemon(out, Path(sockets)) as client:
        heard = follow(client, truth_nhw)
    report(out, heard, pictures, truth_nhw)


def watch(out: Path, page: str) -> None:
    """The film again and again on the live page, until Ctrl-C."""
    with tempfile.TemporaryDirectory() as sockets, daemon(out, Path(sockets), page):
        console.print(
            f"open http://{page}/s/{STREAM} in a browser, click on a fish and press Enter; Ctrl-C ends it"
        )
        with suppress(KeyboardInterrupt):
            signal.sigwait({signal.SIGINT, signal.SIGTERM})


def film(path: Path) -> tuple[list[U8], U8]:
    """Render the scene into a video file; its pictures, and the truth [frames, h, w]."""
    pictures, truth = [], []
    with VideoWriter(path, (WIDTH, HEIGHT), FPS) as video:
        for picture, truth_hw in render():
            video.write(picture)
            pictures.append(picture)
            truth.append(truth_hw)
    return pictures, np.stack(truth)


@contextmanager
def daemon(out: Path, sockets: Path, page: str | None = None) -> Iterator[Client]:
    """`trackerd serve` on the film, as a process of its own, and a client of it; SIGTERM ends it.

    With a `page` to be served the film begins again at its end.
    """
    config = {
        "control": {"endpoint": f"ipc://{sockets}/control"},
        "publish": {"endpoint": f"ipc://{sockets}/publish"},
        "streams": {STREAM: {"url": str(out / "pond.mp4"), "pace": "real", "loop": page is not None}},
        "web": {"endpoint": page},
    }
    path, log_path = out / "trackerd.yaml", out / "trackerd.log"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [str(Path(sys.executable).with_name("trackerd")), "serve", "-c", str(path)]
    console.print("starting the daemon: trackerd serve -c", path)
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with Client(config["control"]["endpoint"]) as client:
                wait_for(client.control, process)
                yield client
        except BaseException:
            process.kill()
            console.print(f"the daemon's log:\n{log_path.read_text()}", markup=False)
            raise
        process.terminate()
        if code := process.wait(STOP_S):
            raise SystemExit(f"demo: the daemon ended with status {code} on SIGTERM")


def wait_for(endpoint: str, process: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_S
    with Client(endpoint, timeout_s=0.2) as client:
        while process.poll() is None and time.monotonic() < deadline_s:
            try:
                model = client.info().model
            except Timeout:
                continue
            console.print(f"it runs {model.name} at {model.image_size} px on {model.device} ({model.dtype})")
            return
    raise SystemExit("demo: the daemon does not answer")


def follow(client: Client, truth_nhw: U8) -> Heard:
    """Subscribe, point at one fish, box another, and listen to the end of the film."""
    heard = Heard()
    with client.subscribe(STREAM, timeout_s=QUIET_S) as subscription:
        listener = threading.Thread(target=heard.listen, args=(subscription,))
        listener.start()
        try:
            if not heard.first.wait(QUIET_S):
                raise SystemExit("demo: the daemon publishes nothing")
            prompt(client, heard.tracks[0][1].frame, truth_nhw)
        finally:
            listener.join()
    if "stream_ended" not in {event.event for event in heard.events}:
        raise SystemExit("demo: the daemon went quiet before the end of the film")
    return heard


def prompt(client: Client, frame: int, truth_nhw: U8) -> None:
    """Mark the two fish on a frame as a person would: a click inside the one, a box around the other."""
    depth_hw = cv2.distanceTransform((truth_nhw[frame] == FISH[BY_POINT]).astype(np.uint8), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(depth_hw.argmax()), depth_hw.shape)
    added = client.add(STREAM, frame=frame, points=[(float(x), float(y))], label="point", object=BY_POINT)
    console.print(f"object {added.object}: a point at {x}, {y} of frame {frame}; its box is {added.box}")
    rows, columns = np.nonzero(truth_nhw[frame] == FISH[BY_BOX])
    box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    added = client.add(STREAM, frame=frame, box=box, label="box", object=BY_BOX)
    console.print(f"object {added.object}: the box {box} of frame {frame}; its own box is {added.box}")


def report(out: Path, heard: Heard, pictures: list[U8], truth_nhw: U8) -> None:
    """Files, table, and the line of JSON."""
    tracks = [message for _, message in heard.tracks]
    write_jsonl(out / "tracks.jsonl", tracks)
    shown = [drawn(message, pictures[message.frame]) for message in tracks]
    with VideoWriter(out / "overlay.mp4", (WIDTH, HEIGHT), FPS) as video:
        for message, picture in zip(tracks, shown, strict=True):
            video.write(picture, message.frame / FPS)
    contact_sheet(out / "contact-sheet.png", shown)

    judged = [judge(number, tracks, truth_nhw == fish) for number, fish in FISH.items()]
    print_table(console, judged)
    tracked = [(arrival_ns, message) for arrival_ns, message in heard.tracks if message.objects]
    arrivals_ns = np.array([arrival_ns for arrival_ns, _ in tracked])
    latency_ns = arrivals_ns - [message.mono_ns for _, message in tracked]
    console.print(f"{len(tracks)} of {FRAMES} frames were published; what is late is dropped, as from a camera")
    console.print("look at", *(out / name for name in ("overlay.mp4", "contact-sheet.png", "tracks.jsonl")))
    summary = {
        "frames": len(tracks),
        "objects": len(judged),
        "mean_iou": round(float(np.mean(np.concatenate([one.iou_n for one in judged]))), 4),
        "fps": round(float((len(tracked) - 1) / np.ptp(arrivals_ns) * 1e9), 2),
        "latency_ms_p50": round(float(np.median(latency_ns)) / 1e6, 1),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
