"""`trackctl record`: what is tracked on a live stream into files, until Ctrl-C."""

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

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
from tracker.config.wording import counted
from tracker.errors import DaemonGone
from tracker.protocol.fields import PICTURE_WIDTHS

if TYPE_CHECKING:  # OpenCV and PIL take their time to import: only when there is work
    from tracker.cli.recorder import Recorder


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
    type=click.Choice(list(PICTURE_WIDTHS)),
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
    with client.subscribe(stream, outputs.topics(width)) as subscription:
        fps = _fps(client, stream)
        with _Stop() as stop:
            recorder = outputs.recorder(fps)
            names = ", ".join(map(str, outputs.paths))
            show.say(f"recording {stream} to {names}; Ctrl-C ends it")
            begun_s = time.monotonic()
            with contextlib.closing(recorder):
                _record(recorder, _messages(subscription, stop), count)
    seconds = time.monotonic() - begun_s
    _say_done(recorder, stream, seconds, outputs.paths)
    if recorder.failed:
        raise click.ClickException(f"not everything was written: {recorder.failures_text()}")


def _fps(client: Client, stream: str) -> float:
    for record in client.streams().streams:
        if record.stream == stream and record.fps:  # 0: it is not known yet
            return record.fps
    return DEFAULT_FPS


def _record(recorder: "Recorder", messages: Iterator[Message], count: int | None) -> None:
    for message in messages:
        recorder.take(message)
        if recorder.frames == count:
            return


def _say_done(recorder: "Recorder", stream: str, seconds: float, paths: Sequence[Path]) -> None:
    resized = f"{counted(recorder.resized, 'frame')} of another size, scaled to the first one's"
    say_done(
        f"{counted(recorder.frames, 'frame')} of {stream} recorded, {recorder.missed} missed",
        seconds,
        recorder.frames / max(seconds, 1e-3),
        [path for path in paths if path not in recorder.failed],
        objects_text(sorted(recorder.seen), recorder.lost),
        *([resized] if recorder.resized else []),
    )


class _Stopped(Exception):
    """A signal came while a message was waited for."""


class _Stop:
    """Ctrl-C, SIGTERM and the end of the terminal: at once while a message is waited for, whatever the wait is in;
    otherwise when the message at hand is written, so that nothing is left half written."""

    def __init__(self) -> None:
        self._told = False
        self._waiting = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup has it ignored
            numbers.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._tell) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def next_of(self, subscription: Subscription[Message]) -> Message:
        """The next message. Raises _Stopped, and what `subscription` raises."""
        try:
            self._waiting = True
            if self._told:
                raise _Stopped
            return next(subscription)
        finally:
            self._waiting = False

    def _tell(self, *_: object) -> None:
        self._told = True
        if self._waiting:
            self._waiting = False  # a second signal doesn't disturb what the first one ends
            raise _Stopped


def _messages(subscription: Subscription[Message], stop: _Stop) -> Iterator[Message]:
    """Until `stop`; a daemon that is away may come back."""
    gone = False
    with contextlib.suppress(_Stopped):
        while True:
            try:
                message = stop.next_of(subscription)
            except DaemonGone as error:
                if not gone:
                    show.say(f"{error.message}; what it sends when it is back is recorded")
                gone = True
            else:
                gone = False
                yield message
