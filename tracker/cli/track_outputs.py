"""What `trackerd track` writes, and what it says of that."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tracker.cli.options import Group
from tracker.cli.outputs import DEFAULT_FPS, check_paths, closing_named, naming, objects_text, say_done
from tracker.config.wording import counted

if TYPE_CHECKING:  # torch takes seconds to import: only when there is work
    from tracker.offline.video import Outcome

Sink = Callable[["Outcome"], None]


@dataclass(frozen=True, slots=True)
class Outputs(Group):
    """What is wanted of the result."""

    masks: Path | None
    jsonl: Path | None
    overlay: Path | None
    exports: Sequence[tuple[str, Path]]
    overwrite: bool

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Every export's format and path."""
        return [*([("jsonl", self.jsonl)] if self.jsonl else []), *self.exports]

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.masks, self.overlay) if path] + [path for _, path in self.files]

    @property
    def indexed(self) -> bool:
        """Whether objects become pixels of indexed PNGs."""
        return self.masks is not None or any(name == "davis" for name, _ in self.exports)

    def check(self, inputs: Sequence[Path]) -> None:
        """Refuse what cannot be written."""
        if not self.paths:
            raise click.UsageError("nothing to write: give --masks, --jsonl, --overlay or --export")
        check_paths(self.paths, inputs=inputs, overwrite=self.overwrite)

    @contextmanager
    def sinks(self, path: Path) -> Iterator[list[Sink]]:
        """What takes the outcomes, one for each file or folder."""
        from tracker.exports import WRITERS, DavisPng

        sinks: list[Sink] = []
        with ExitStack() as stack:
            if self.masks:
                png = DavisPng(self.masks)
                sinks.append(naming(self.masks, lambda outcome: png.write_ids(outcome.stem, outcome.ids_hw)))
            for name, target in self.files:
                writer = WRITERS[name](target)
                stack.enter_context(closing_named(target, writer.close))
                sinks.append(naming(target, partial(_write, writer.write)))
            if self.overlay:
                sinks.append(stack.enter_context(_overlaid(self.overlay, path)))
            yield sinks


@dataclass(slots=True)
class Report:
    """What a finished run says of itself."""

    begun_s: float = field(default_factory=time.monotonic)
    frames: int = 0
    damaged: int = 0  # of them, as far as the decoder says
    seen: set[int] = field(default_factory=set)
    lost: list[int] = field(default_factory=list)  # on the last frame

    def take(self, outcome: "Outcome") -> None:
        self.frames += 1
        self.damaged += outcome.frame.corrupt
        self.seen.update(outcome.masks)
        self.lost = [number for number, mask in outcome.masks.items() if not (mask.logits_hw > 0).any()]

    def say(self, paths: Sequence[Path]) -> None:
        seconds = time.monotonic() - self.begun_s
        objects = objects_text(sorted(self.seen), self.lost)
        damaged = [f"{counted(self.damaged, 'frame')} damaged"] if self.damaged else []
        say_done(counted(self.frames, "frame"), seconds, self.frames / seconds, paths, objects, *damaged)


def _write(write: Callable[[Any], None], outcome: "Outcome") -> None:
    write(outcome.result)


@contextmanager
def _overlaid(overlay: Path, path: Path) -> Iterator[Sink]:
    from tracker.exports import OverlayVideo
    from tracker.images.imaging import to_rgb
    from tracker.offline.frames import facts_of

    facts = facts_of(path)
    video = OverlayVideo(overlay, facts.fps or DEFAULT_FPS, facts.pixel_aspect)
    with closing_named(overlay, video.close):
        yield naming(overlay, lambda outcome: video.write(to_rgb(outcome.frame.image), outcome.result))
