"""Which of a container's video tracks is shown."""

from typing import Any

import av
from av.stream import Discard, Disposition

VideoTrack = Any  # av.VideoStream, whose stubs lack half of what is read here


def video_tracks(container: av.container.InputContainer) -> list[VideoTrack]:
    """The tracks that hold video, the one to show first: the default, else the largest, else the first.

    Pictures that are attached to a song are none. HLS variants whose size is not known yet go by their bit rate.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    return sorted(tracks, key=_rank, reverse=True)  # stable: the first of equals stays first


def is_known(track: VideoTrack) -> bool:
    """Whether something tells how large the track's pictures are; a camera's session description may not."""
    return bool(_pixels(track) or _bit_rate(track))


def discard_others(container: av.container.InputContainer, chosen: VideoTrack) -> None:
    """Neither read nor fetch other video tracks: of an HLS playlist only one variant is downloaded."""
    for track in container.streams.video:
        track.discard = Discard.default if track is chosen else Discard.all


def _rank(track: VideoTrack) -> tuple[bool, int, int]:
    is_default = bool(track.disposition & Disposition.default)
    return is_default, _pixels(track), _bit_rate(track)


def _pixels(track: VideoTrack) -> int:
    context = track.codec_context
    return int(context.width) * int(context.height)


def _bit_rate(track: VideoTrack) -> int:
    said = track.metadata.get("variant_bitrate", "")
    return int(said) if said.isdecimal() else 0
