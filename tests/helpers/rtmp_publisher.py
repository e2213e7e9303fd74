"""Publishes a moving bar to an RTMP URL until it is killed: `python -m helpers.rtmp_publisher URL`."""

import sys
import time

import av

from helpers import videos


def main(url: str) -> None:
    while True:
        try:
            publish(url)
        except (av.FFmpegError, OSError):
            time.sleep(0.1)  # nobody listens yet


def publish(url: str) -> None:
    with av.open(url, "w", format="flv") as out:
        stream = out.add_stream("libx264", rate=25, options={"tune": "zerolatency", "g": "10"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, planes in enumerate(videos.moving(1_000_000)):
            frame = videos.frame_of(planes)
            frame.pts = index
            out.mux(stream.encode(frame))
            time.sleep(0.02)


main(sys.argv[1])
