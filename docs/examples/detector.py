"""Tells the tracker what a detector found: fish in a green pond, with OpenCV alone. Put your own into `boxes_in`.

python detector.py STREAM [SECONDS] [TIMES]

It looks at a picture of the stream every SECONDS (default 1), TIMES times (default: for ever). What is found and is
not tracked yet is tracked from then on; what is tracked already is only reported. TRACKER_CONTROL names another
control socket than tcp://127.0.0.1:5570.
"""

import itertools
import sys
import time
from collections.abc import Iterator

import cv2
import numpy as np

from tracker.client import Client
from tracker.images.imaging import decode
from tracker.protocol.object_requests import Detection

GREENER = 8  # levels by which everything in the pond is greener than red, but for the fish
LEAST_PX = 1000


def boxes_in(rgb_hwc: np.ndarray) -> Iterator[tuple[str, float, tuple[int, int, int, int]]]:
    """Label, score and box of everything that is not green."""
    red_hw, green_hw, _ = cv2.split(cv2.GaussianBlur(rgb_hwc, (0, 0), 2).astype(np.int16))
    fish_hw = cv2.morphologyEx((green_hw - red_hw < GREENER).astype(np.uint8), cv2.MORPH_OPEN, np.ones((7, 7)))
    contours, _ = cv2.findContours(fish_hw, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    for contour in contours:
        x, y, width, height = cv2.boundingRect(contour)
        if cv2.contourArea(contour) >= LEAST_PX:
            yield "koi", cv2.contourArea(contour) / (width * height), (x, y, x + width, y + height)


def main(stream: str, seconds: str = "1", times: str | None = None) -> None:
    with Client() as client:
        for _ in itertools.repeat(None) if times is None else range(int(times)):
            picture = client.snapshot(stream)
            found = [
                Detection(label=label, score=score, box=box) for label, score, box in boxes_in(decode(picture.data))
            ]
            if found:
                answer = client.add_many(stream, found, frame=picture.frame)
                for detection, match in zip(found, answer.objects, strict=True):
                    what = "nothing there" if match.object is None else "new" if match.added else "known"
                    sys.stdout.write(
                        f"#{answer.frame} {detection.label} at {detection.box}: {what} {match.object}\n"
                    )
            sys.stdout.flush()
            time.sleep(float(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
