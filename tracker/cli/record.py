"""`trackctl record`: what is tracked on a live stream into files, until Ctrl-C."""

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import click
from msgspec import structs

from tracker.cli import show
from tracker.cli.options import OUT_FILE
from tracker.cli.track import DEFAULT_FPS, Export
from tracker.client import Client, Subscription
from tracker.client.messages import Message
from tracker.errors import Timeout, TrackerError, UnknownStream
from tracker.exports import WRITERS, FrameResult, OverlayVideo, Writer
from tracker.images import imaging
from tracker.protocol.replies import FrameMessage, ObjectRecord, Tracks

PATIENCE_S = 0.25  # how often the wait for a message is left to see whether to stop
KEPT = 64  # frames that wait for their picture


@click.command()
@click.argument("stream")
@click.option("--export", "exports", type=Export(), multiple=True, help=f"FORMAT is one of {', '.join(WRITERS)}.")
@click.option("--overlay", type=OUT_FILE, help="An MP4 with the objects drawn on the frames.")
@click.option(
    "--width",
    type=click.Choice(["320", "640", "1280", "full"]),
    default="full",
    show_default=True,
    help="Of --overlay, at most.",
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many frames.")
@click.pass_obj
def record(
    client: Client,
    stream: str,
    exports: Sequence[tuple[str, Path]],
    overlay: Path | None,
    width: str,
    count: int | None,
) -> None:
    """Write what is tracked on a stream to files, until Ctrl-C.

    JSON lines, MOT text, DAVIS pictures and the video can be read at any moment, whatever becomes of this program;
    COCO and CVAT files are complete when it has ended.
    """
    paths = [path for _, path in exports] + ([overlay] if overlay else [])
    _check_paths(paths)
    fps = _fps(client, stream)
    topics = ["tracks", f"frames/{width}"] if overlay else ["tracks"]
    with _stop_signals() as stop, client.subscribe(stream, topics, PATIENCE_S) as subscription:
        show.say(f"recording {stream} to {', '.join(map(str, paths))}; Ctrl-C ends it")
        with contextlib.closing(Recorder()) as recorder:
            for name, path in exports:
                recorder.outputs[path] = _exported(name, path)
            if overlay:
                recorder.outputs[overlay] = Overlaid(OverlayVideo(overlay, fps))
            for message in _messages(subscription, stop):
                # A frame's picture comes after its tracks: with the next frame's tracks this one is complete.
                if recorder.frames == count and isinstance(message.body, Tracks):
                    break
                recorder.take(message)
    click.echo(f"{recorder.frames} frames of {stream} recorded, {recorder.lost} lost")
    if recorder.failed:
        raise TrackerError("not everything was written: " + ", ".join(map(str, recorder.failed)))


def _check_paths(paths: Sequence[Path]) -> None:
    """Nothing is written over: what was recorded live cannot be made again."""
    if not paths:
        raise click.UsageError("nothing to write: give --export FORMAT=PATH or --overlay FILE")
    for path in paths:
        if any(path.iterdir()) if path.is_dir() else path.exists():
            raise click.UsageError(f"{path} is there already: remove it, or choose another name")
        if paths.count(path) > 1:
            raise click.UsageError(f"{path} is given twice")
        if not path.parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {path.parent}")


def _fps(client: Client, stream: str) -> float:
    """Raises UnknownStream."""
    there = {record.stream: record for record in client.streams().streams}
    if stream not in there:
        known = ", ".join(sorted(there)) or "none"
        raise UnknownStream(f"stream: no stream is called {stream!r}; there: {known}")
    return there[stream].fps or DEFAULT_FPS


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM and the end of the terminal: so nothing is left half written."""
    stop = threading.Event()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _messages(subscription: Subscription[Message], stop: threading.Event) -> Iterator[Message]:
    while not stop.is_set():
        try:
            message = next(subscription)
        except Timeout:
            continue
        yield message


class Output(Protocol):
    """One file, or one folder. `frame` is a number that never comes twice."""

    def take(self, frame: int, message: Message) -> None: ...

    def close(self) -> None: ...


class Recorder:
    """Messages to all outputs. One that fails is closed, and the others go on."""

    def __init__(self) -> None:
        self.outputs: dict[Path, Output] = {}
        self.frames = 0
        self.lost = 0
        self.failed: list[Path] = []
        self._instance = ""
        self._offset = 0  # number of the frame that this instance of the daemon calls 0
        self._next = 0

    def take(self, message: Message) -> None:
        """Raises TrackerError where no output is left."""
        if message.lost:
            show.say(f"{message.topic}: {message.lost} messages lost")
        if isinstance(message.body, Tracks):
            self.frames += 1
            self.lost += message.lost
        frame = self._number(message)
        for path, output in list(self.outputs.items()):
            with self._guarded(path):
                output.take(frame, message)
        if not self.outputs:
            raise TrackerError("nothing is left to write to")

    def close(self) -> None:
        for path, output in list(self.outputs.items()):
            with self._guarded(path):
                output.close()

    def _number(self, message: Message) -> int:
        """A daemon that is started again counts from 0; here numbers go on, so that nothing is written over."""
        assert isinstance(message.body, Tracks | FrameMessage)
        if message.body.instance != self._instance:
            self._instance, self._offset = message.body.instance, self._next
        frame = self._offset + message.body.frame
        self._next = max(self._next, frame + 1)
        return frame

    @contextlib.contextmanager
    def _guarded(self, path: Path) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001
            # A full disk, an id that a format cannot hold: whatever it is, the other files must not suffer from it.
            show.say(f"{path}: ends here: {error}")
            self.failed.append(path)
            with contextlib.suppress(Exception):
                self.outputs.pop(path).close()


def _exported(name: str, path: Path) -> "Exported":
    try:
        return Exported(WRITERS[name](path))
    except OSError as error:
        raise click.UsageError(f"{path} cannot be written: {error.strerror}") from None


class Exported:
    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def take(self, frame: int, message: Message) -> None:
        if isinstance(message.body, Tracks):
            self._writer.write(replace(FrameResult.of(message.body), frame=frame))

    def close(self) -> None:
        self._writer.close()


class Overlaid:
    """Pictures with what is tracked on them, at the times of their frames by the daemon's clock."""

    def __init__(self, video: OverlayVideo) -> None:
        self._video = video
        self._waiting: dict[int, Tracks] = {}
        self._size_wh: tuple[int, int] | None = None

    def take(self, frame: int, message: Message) -> None:
        if isinstance(message.body, Tracks):
            self._waiting[frame] = message.body
            if len(self._waiting) > KEPT:
                del self._waiting[min(self._waiting)]
        elif message.image is not None and frame in self._waiting:
            self._write(frame, self._waiting.pop(frame), message.image)

    def _write(self, frame: int, tracks: Tracks, jpeg: bytes) -> None:
        rgb_hwc = imaging.decode(jpeg)
        self._size_wh = self._size_wh or (rgb_hwc.shape[1], rgb_hwc.shape[0])  # a video has one size for good
        objects = [_scaled(record, tracks.size, self._size_wh) for record in tracks.objects]
        result = FrameResult(frame, self._size_wh, objects, tracks.mono_ns / 1e9)
        self._video.write(imaging.resize_rgb(rgb_hwc, self._size_wh), result)

    def close(self) -> None:
        self._video.close()


def _scaled(record: ObjectRecord, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> ObjectRecord:
    """An object on a picture of another size."""
    if from_wh == to_wh:
        return record
    x, y = to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]

    def moved(flat: Sequence[int]) -> list[int]:
        return [round(value * (y if i % 2 else x)) for i, value in enumerate(flat)]

    box = None if record.box is None else tuple(moved(record.box))
    outline = [[moved(ring) for ring in polygon] for polygon in record.outline]
    return structs.replace(record, box=box, outline=outline)
