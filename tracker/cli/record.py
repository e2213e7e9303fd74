"""`trackctl record`: what is tracked on a live stream into files, until Ctrl-C."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli import show
from tracker.cli.options import Group
from tracker.cli.outputs import (
    DEFAULT_FPS,
    EXPORT_HELP,
    OUT_FOLDER,
    Export,
    OutFile,
    check_paths,
    objects_text,
    say_done,
)
from tracker.client import Client, Subscription
from tracker.client.messages import Message
from tracker.errors import DaemonGone, Timeout, TrackerError

if TYPE_CHECKING:  # OpenCV and PIL take their time to import: only when there is work
    from tracker.cli.recorder import Recorder

PATIENCE_S = 0.25  # how often the wait for a message is left to see whether to stop


@dataclass(frozen=True, slots=True)
class Outputs(Group):
    """What is wanted of the stream."""

    exports: Sequence[tuple[str, Path]]
    video: Path | None
    frames: Path | None
    overlay: Path | None

    @property
    def media(self) -> list[Path]:
        """Plain pictures, which the exports' numbers mean."""
        return [path for path in (self.video, self.frames) if path is not None]

    @property
    def paths(self) -> list[Path]:
        overlay = [] if self.overlay is None else [self.overlay]
        return [path for _, path in self.exports] + self.media + overlay

    def check(self, width: str) -> None:
        """Refuse what cannot be written."""
        from tracker.cli.recorder import INDEXED, index_path

        if not self.paths:
            raise click.UsageError("nothing to write: give --export, --video, --frames or --overlay")
        if width != "full" and self.media:
            raise click.UsageError("--width is of --overlay alone: --video and --frames have the source's size")
        check_paths(self.paths + [index_path(path) for name, path in self.exports if name in INDEXED])

    def topics(self, width: str) -> list[str]:
        return ["tracks", f"frames/{width}"] if self.media or self.overlay else ["tracks"]

    def recorder(self, fps: float) -> "Recorder":
        """With every output open. Raises click.UsageError where one cannot be written."""
        from tracker.cli import recorder

        recording = recorder.Recorder(pictures=bool(self.media or self.overlay), one_size=bool(self.media))
        try:
            for name, path in self.exports:
                recording.outputs[path] = recorder.Exported(name, path)
            if self.frames:
                recording.outputs[self.frames] = recorder.PlainFrames(self.frames)
        except OSError as error:
            recording.close()
            raise click.UsageError(f"{error.filename} cannot be written: {error.strerror}") from None
        if self.video:
            recording.outputs[self.video] = recorder.PlainVideo(self.video, fps)
        if self.overlay:
            recording.outputs[self.overlay] = recorder.Overlaid(self.overlay, fps)
        return recording


@click.command()
@click.argument("stream")
@click.option("--export", "exports", type=Export(), multiple=True, help=EXPORT_HELP)
@click.option("--video", type=OutFile(".mp4"), help="An MP4 of the plain frames, which the exports' numbers mean.")
@click.option("--frames", type=OUT_FOLDER, help="A folder of the plain frames as JPEGs.")
@click.option("--overlay", type=OutFile(".mp4"), help="An MP4 with the objects drawn on the frames.")
@click.option(
    "--width",
    type=click.Choice(["320", "640", "1280", "full"]),
    default="full",
    show_default=True,
    help="Of --overlay, at most.",
)
@click.option("--count", type=click.IntRange(1), help="Stop after so many frames.")
@click.pass_obj
def record(client: Client, /, stream: str, width: str, count: int | None, **options: Any) -> None:
    """Write what is tracked on a stream to files, until Ctrl-C.

    Frames are numbered as they are written, so that the exports' numbers are those of --video and --frames; the
    daemon's own numbers are kept beside. JSON lines, MOT text, pictures and videos can be read at any moment,
    whatever becomes of this program; COCO and CVAT files are complete when it has ended.
    """
    outputs = Outputs.take(options)
    outputs.check(width)
    topics = outputs.topics(width)
    with _stop_signals() as stop, client.subscribe(stream, topics, PATIENCE_S) as subscription:
        recorder = outputs.recorder(_fps(client, stream))
        names = ", ".join(map(str, outputs.paths))
        show.say(f"recording {stream} to {names}; Ctrl-C ends it")
        begun_s = time.monotonic()
        with contextlib.closing(recorder):
            _record(recorder, _messages(subscription, stop), count)
    seconds = time.monotonic() - begun_s
    _say_done(recorder, stream, seconds, outputs.paths)
    if recorder.failed:
        raise TrackerError("not everything was written: " + ", ".join(map(str, recorder.failed)))


def _fps(client: Client, stream: str) -> float:
    for record in client.streams().streams:
        if record.stream == stream and record.fps is not None:
            return record.fps
    return DEFAULT_FPS


def _record(recorder: "Recorder", messages: Iterator[Message], count: int | None) -> None:
    for message in messages:
        recorder.take(message)
        if recorder.frames == count:
            return


def _say_done(recorder: "Recorder", stream: str, seconds: float, paths: Sequence[Path]) -> None:
    say_done(
        f"{recorder.frames} frames of {stream} recorded, {recorder.missed} missed",
        seconds,
        recorder.frames / max(seconds, 1e-3),
        [path for path in paths if path not in recorder.failed],
        objects_text(sorted(recorder.seen), recorder.lost),
    )


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
    """Until `stop`; a daemon that is away may come back."""
    gone = False
    while not stop.is_set():
        try:
            message = next(subscription)
        except DaemonGone as error:
            if not gone:
                show.say(f"{error.message}; what it sends when it is back is recorded")
            gone = True
        except Timeout:
            continue
        else:
            gone = False
            yield message
