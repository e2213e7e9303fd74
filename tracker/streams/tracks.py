"""Which of a container's video tracks is shown, and what it says of itself."""

from fractions import Fraction
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


def nominal_fps(track: VideoTrack, most: float | None) -> float | None:
    """Its own frames per second, or `most` where that is less or all that is known."""
    rate = track.average_rate or track.guessed_rate
    fps = float(rate) if rate and rate <= 1000 else None  # some cameras announce their clock's rate
    if fps and most:
        return min(fps, most)
    return fps or most


def estimated_length(container: av.container.InputContainer, track: VideoTrack) -> int | None:
    """In pictures; None where nothing tells."""
    if track.frames:
        return int(track.frames)
    fps = nominal_fps(track, None)
    if container.duration and fps:
        return round(container.duration / 1e6 * fps)
    return None


def pixel_aspect(track: VideoTrack, scaled_wh: tuple[int, int] | None, *, transposed: bool) -> Fraction:
    """Width by height of a pixel of the upright picture as it is shown; that is scaled to `scaled_wh`, if given."""
    context = track.codec_context
    aspect, w, h = Fraction(track.sample_aspect_ratio or 1), context.width, context.height
    if transposed:
        aspect, w, h = 1 / aspect, h, w
    return aspect * Fraction(w * scaled_wh[1], h * scaled_wh[0]) if scaled_wh else aspect


def _rank(track: VideoTrack) -> tuple[bool, int, int]:
    is_default = bool(track.disposition & Disposition.default)
    return is_default, _pixels(track), _bit_rate(track)


def _pixels(track: VideoTrack) -> int:
    context = track.codec_context
    return int(context.width) * int(context.height)


def _bit_rate(track: VideoTrack) -> int:
    said = track.metadata.get("variant_bitrate", "")
    return int(said) if said.isdecimal() else 0
