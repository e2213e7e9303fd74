"""The demo: a film with truth, rendered or real, the daemon on it, two prompts, and how well it followed them."""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from msgspec import structs
from numpy.typing import NDArray
from rich.console import Console

from opencv import frames_of
from pond.report import contact_sheet, drawn, ending, judge, print_table, write_jsonl
from pond.scene import FPS, HEIGHT, SECONDS, WIDTH, render
from tracker.client import Client, Message
from tracker.config import StreamConfig
from tracker.errors import Timeout
from tracker.images.video_writer import VideoWriter
from tracker.protocol.messages import Event, Tracks

U8 = NDArray[np.uint8]
OUT = Path(__file__).resolve().parents[2] / "out" / "demo"
CARS = Path(__file__).parent / "cars"
PAGE = "127.0.0.1:5580"
Process = subprocess.Popen[bytes]
START_S, QUIET_S, STOP_S = 120.0, 20.0, 20.0


@dataclass(frozen=True)
class Scene:
    """A film of `pictures` [h, w, 3] RGB and its truth: the object's number at each pixel, 0 for none.

    `marks` says by number how an object is pointed out to the daemon, which knows it by the same number.
    """

    name: str
    fps: float
    pictures: list[U8]
    labels_nhw: U8
    marks: dict[int, str]

    @property
    def size_wh(self) -> tuple[int, int]:
        height, width = self.labels_nhw.shape[1:]
        return width, height


console = Console()


@dataclass
class Heard:
    """What the subscriber received of a film of `length` frames, each tracks message with the monotonic time of its
    arrival."""

    length: int
    tracks: list[tuple[int, Tracks]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    first: threading.Event = field(default_factory=threading.Event)
    marked: threading.Event = field(default_factory=threading.Event)
    over: bool = False
    """Whether it ended after it was marked: before, it is shown again."""

    def listen(self, subscription: Iterable[Message]) -> None:
        """Until the film's last frame, or nothing comes any more."""
        try:
            for message in subscription:
                if isinstance(message.body, Tracks):
                    self.tracks.append((time.monotonic_ns(), message.body))
                    self.first.set()
                elif isinstance(message.body, Event):
                    self.events.append(message.body)
                    self.over |= message.body.event == "stream_ended" and self.marked.is_set()
                if self.over and (self.tracks[-1][1].frame + 1) % self.length == 0:
                    return
        except Timeout:
            return


def main() -> None:
    parser = argparse.ArgumentParser(prog="tools/demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT, help="folder for what it leaves (default: out/demo)")
    parser.add_argument("--real", action="store_true", help="a real film, of two cars, instead of a rendered pond")
    parser.add_argument("--watch", action="store_true", help="show the film on the live page instead, to click on")
    parser.add_argument("--page", default=PAGE, help=f"where the page listens, with --watch (default: {PAGE})")
    arguments = parser.parse_args()
    if arguments.out.resolve() == OUT.resolve():
        shutil.rmtree(arguments.out, ignore_errors=True)  # what the demo before left
    elif arguments.out.exists() and any(arguments.out.iterdir()):
        parser.error(f"--out: {arguments.out} is not empty; name a new folder")
    arguments.out.mkdir(parents=True, exist_ok=True)

    scene = cars() if arguments.real else pond()
    film = arguments.out / f"{scene.name}.mp4"
    with VideoWriter(film, scene.size_wh, scene.fps) as video:
        for picture in scene.pictures:
            video.write(picture)
    if arguments.watch:
        watch(arguments.out, film, scene, arguments.page)
        return
    with tempfile.TemporaryDirectory() as sockets, daemon(arguments.out, film, Path(sockets)) as (client, _):
        heard = follow(client, film, scene)
    report(arguments.out, heard, scene)


def pond() -> Scene:
    """Render the koi; every machine renders the same film."""
    console.print(
        f"rendering {SECONDS} s of a pond, {WIDTH}x{HEIGHT}, {FPS} frames/s, with the truth of every pixel"
    )
    pictures, truth = zip(*render(), strict=True)
    return Scene("pond", FPS, list(pictures), np.stack(truth), {1: "point", 2: "box"})


def cars() -> Scene:
    """Two cars from above, filmed; `cars/README.md` names its authors and its licence."""
    console.print("reading a film of two cars: Intel's sample videos, CC BY 4.0, see tools/pond/cars/README.md")
    pictures = list(frames_of(CARS / "cars.mp4"))
    return Scene("cars", 10, pictures, np.load(CARS / "truth.npz")["labels_thw"], {1: "box", 2: "point"})


def watch(out: Path, film: Path, scene: Scene, page: str) -> None:
    """The film again and again on the live page, until Ctrl-C."""
    with tempfile.TemporaryDirectory() as sockets, daemon(out, film, Path(sockets), page) as (client, process):
        client.add_stream(scene.name, StreamConfig(url=str(film), loop=True))
        for number in (signal.SIGINT, signal.SIGTERM):  # which a shell may have had ignored in the background
            signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            console.print(
                f"open http://{page}/s/{scene.name} in a browser, click on something and press Enter; "
                "Ctrl-C ends it"
            )
            while process.poll() is None:  # not `sigwait`: a signal just before it would be lost
                time.sleep(0.5)
            raise SystemExit(f"demo: the daemon ended by itself, with status {process.returncode}")


@contextmanager
def daemon(out: Path, film: Path, sockets: Path, page: str | None = None) -> Iterator[tuple[Client, Process]]:
    """A client of `trackerd serve`, which may show it the film, and its process; SIGTERM ends it."""
    control = f"ipc://{sockets}/control"
    config = {
        "control": {"endpoint": control, "allow_sources": [str(film)]},
        "publish": {"endpoint": f"ipc://{sockets}/publish"},
        "web": {"endpoint": page},
    }
    path, log_path = out / "trackerd.yaml", out / "trackerd.log"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    command = [str(Path(sys.executable).with_name("trackerd")), "serve", "-c", str(path)]
    console.print("starting the daemon: trackerd serve -c", path)
    with log_path.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            with Client(control) as client:
                wait_for(client.control, process)
                yield client, process
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


def follow(client: Client, film: Path, scene: Scene) -> Heard:
    """Subscribe, begin the film and hold it, mark its objects, let it go on, and listen to its end.

    `pace: all`: it waits for the model, so that what is found does not depend on the machine's speed.
    """
    heard = Heard(len(scene.pictures))
    with client.subscribe(timeout_s=QUIET_S) as subscription:
        listener = threading.Thread(target=heard.listen, args=(subscription,))
        listener.start()
        try:
            client.add_stream(scene.name, StreamConfig(url=str(film), pace="all"))
            if not heard.first.wait(QUIET_S):
                raise SystemExit("demo: the daemon publishes nothing")
            client.pause_stream(scene.name)
            for number in scene.marks:
                mark(client, scene, number)
            heard.marked.set()
            client.resume_stream(scene.name)
        finally:
            listener.join()
    if "stream_ended" not in {event.event for event in heard.events}:
        raise SystemExit("demo: the daemon went quiet before the end of the film")
    heard.tracks = last_showing(heard.tracks)
    return heard


def last_showing(tracks: list[tuple[int, Tracks]]) -> list[tuple[int, Tracks]]:
    """All, or those of the last epoch with frames counted from its first.

    A short film can be over before it is held. It then begins again, in a new epoch.
    """
    first_epoch, last_epoch = tracks[0][1].epoch, tracks[-1][1].epoch
    if first_epoch == last_epoch:
        return tracks
    shown = [(arrival_ns, message) for arrival_ns, message in tracks if message.epoch == last_epoch]
    first = shown[0][1].frame
    return [(arrival_ns, structs.replace(message, frame=message.frame - first)) for arrival_ns, message in shown]


def mark(client: Client, scene: Scene, number: int) -> None:
    """Point an object out on the film's first frame as a person would: a click inside it, or a box around it."""
    mask_hw, kind = scene.labels_nhw[0] == number, scene.marks[number]
    if kind == "point":
        y, x = np.unravel_index(
            int(cv2.distanceTransform(mask_hw.astype(np.uint8), cv2.DIST_L2, 5).argmax()), mask_hw.shape
        )
        added = client.add(scene.name, frame=0, points=[(float(x), float(y))], label=kind, object=number)
        told = f"a point at {x}, {y}"
    else:
        rows, columns = np.nonzero(mask_hw)
        box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
        added = client.add(scene.name, frame=0, box=box, label=kind, object=number)
        told = f"the box {box}"
    console.print(f"object {added.object}: {told} of frame 0; its own box is {added.box}")


def report(out: Path, heard: Heard, scene: Scene) -> None:
    """Files, table, and the line of JSON."""
    tracks = [message for _, message in heard.tracks]
    write_jsonl(out / "tracks.jsonl", tracks)
    shown = [drawn(message, scene.pictures[message.frame]) for message in tracks]
    with VideoWriter(out / "overlay.mp4", scene.size_wh, scene.fps) as video:
        for message, picture in zip(tracks, shown, strict=True):
            video.write(picture, message.frame / scene.fps)
    contact_sheet(out / "contact-sheet.png", shown)

    judged = [
        replace(
            judge(number, tracks, scene.labels_nhw == number),
            ended=ending(number, tracks, scene.labels_nhw, number),
        )
        for number in scene.marks
    ]
    print_table(console, judged)
    tracked = [(arrival_ns, message) for arrival_ns, message in heard.tracks if message.objects]
    arrivals_ns = np.array([arrival_ns for arrival_ns, _ in tracked])
    latency_ns = arrivals_ns - [message.mono_ns for _, message in tracked]
    console.print(f"{len(tracks)} of {len(scene.pictures)} frames: the film waits where the machine is slow")
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
