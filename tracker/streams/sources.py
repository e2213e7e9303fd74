"""Everything that gives pictures: video files, cameras and devices by PyAV, pictures and folders of them by PIL."""

import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from tracker.config import StreamConfig
from tracker.images.stills import refuse_special
from tracker.images.types import Frame
from tracker.streams.decoder import OPEN_TIMEOUT_S, VideoSource
from tracker.streams.folder import FolderSource, is_picture
from tracker.streams.opening import Admitted
from tracker.streams.picture import Picture, Source
from tracker.streams.urls import local_path


def open_source(
    config: StreamConfig, read_timeout_s: float = OPEN_TIMEOUT_S, *, admitted: Admitted | None = None
) -> Source:
    """Open what the config names; the caller closes it (or uses it in a `with`).

    Raises SourceError, its text free of credentials, and Misconfigured where trying again is of no use.
    """
    path = local_path(config.url)
    if path is not None and config.format is None and _holds_pictures(path):
        return FolderSource(path, config.fps, config.size)
    return VideoSource(config, read_timeout_s, admitted=admitted)


def _holds_pictures(path: Path) -> bool:
    """A folder, or a picture's file: FFmpeg would take half of a damaged one, and not turn it upright."""
    if os.path.isdir(path):  # noqa: PTH112 - Path raises for names that are too long
        return True
    return is_picture(path) and os.path.isfile(path)  # noqa: PTH113


def open_path(path: str | Path, size_wh: tuple[int, int] | None = None) -> Source:
    """Open a video file, a picture or a folder of them, every frame of it. Raises SourceError."""
    refuse_special(Path(path))
    return open_source(StreamConfig(url=str(Path(path).absolute()), pace="all", size=size_wh))


def frames(path: str | Path, stream: str = "file", size_wh: tuple[int, int] | None = None) -> Iterator[Frame]:
    """Every frame of a video file or folder of pictures, in order, from capture index 0; scaled to `size_wh`, if
    that is given. Raises SourceError."""
    with open_path(path, size_wh) as source:
        pictures = (picture for picture in source if picture is not None)
        for index, picture in enumerate(pictures):
            yield stamped(picture, stream, index, 0, source.pixel_aspect)


def stamped(picture: Picture, stream: str, index: int, epoch: int, pixel_aspect: Fraction) -> Frame:
    """A picture with its number, and the clocks of now."""
    return Frame(
        stream=stream,
        index=index,
        epoch=epoch,
        pts=picture.pts,
        time=time.time(),
        mono_ns=time.monotonic_ns(),
        camera_time=picture.camera_time,
        image=picture.image,
        corrupt=picture.corrupt,
        name=picture.name,
        pixel_aspect=pixel_aspect,
    )
