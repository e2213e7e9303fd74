"""kill -9 while an object is followed on a camera: its masks afterwards, beside those of a daemon that ran on."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import cv2
import numpy as np

from faults_runs.daemon import SIZE_WH, STREAM, Served
from tracker.client.client import Client
from tracker.errors import TrackerError
from tracker.images import imaging
from tracker.masks.rle import rle_decode
from tracker.masks.types import U8, Bool
from tracker.protocol.messages import FrameMessage, Tracks

FPS = 6.0
LABEL = "compared"
BITS, BIT_PX = 16, 20  # of the number that is drawn into each picture
AFTER, COMPARED = 30, 20  # frames after the restart, and how many are compared from there
LEAST_IOU = 0.9
PATIENCE_S = 120.0


def same_masks_after_kill(folder: Path, short: bool) -> tuple[str, list[str]]:
    """Killed and started again, it follows the object as if nothing had been: IoU of 20 frames from the 30th on,
    in the median. On a busy machine each daemon leaves out frames of its own, and single masks differ by that."""
    after = []
    with camera() as url, ExitStack() as stack:
        stream = {"url": url, "loop": False}
        going_on, killed = folder / "going_on", folder / "killed"
        for own in (going_on, killed):
            own.mkdir()
        undisturbed = Served(going_on, stream=stream, masks="rle")
        stack.callback(undisturbed.stop)
        state = {"dir": str(killed / "state"), "interval_s": 0.5}
        victim = Served(killed, persist=state, stream=stream, masks="rle")
        stack.callback(lambda: victim.stop())
        _follow_both(undisturbed, victim)
        expected = stack.enter_context(Masks(undisturbed))
        with Masks(victim) as found:
            before = _ious(expected, found)
        for _ in range(1 if short else 5):
            victim.process.kill()
            victim.process.wait()
            victim = Served(killed, persist=state, stream=stream, masks="rle")
            with Masks(victim) as found:
                after.append(_ious(expected, found))
    problems = [] if min(map(np.median, after)) >= LEAST_IOU else ["IoU"]
    figures = ", ".join(map(_figures, after))
    return f"{len(after)} kills, IoU (median, lowest) before {_figures(before)}, after {figures}", problems


def _follow_both(*both: Served) -> None:
    """The same thing, shown on the same picture."""
    clients = [Client(served.control, timeout_s=30) for served in both]
    with clients[0], clients[1]:
        newest = [client.snapshot(STREAM) for client in clients]
        numbers = [number_in(imaging.decode(frame.data)) for frame in newest]
        number = min(numbers)
        for client, frame, newest_number in zip(clients, newest, numbers, strict=True):
            index = frame.frame - (newest_number - number)
            client.add(STREAM, frame=index, points=[centre(number)], label=LABEL)


def _figures(ious: list[float]) -> str:
    return f"{np.median(ious):.3f} {min(ious):.3f}"


def _ious(expected: "Masks", found: "Masks") -> list[float]:
    """Of the frames from the 30th on that both have processed; 0 where there are too few."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        first = min(found.by_number, default=None)
        if first is not None:
            both = found.by_number.keys() & expected.by_number.keys()
            late = sorted(number for number in both if number >= first + AFTER)
            if len(late) >= COMPARED:
                pairs = [(expected.by_number[n], found.by_number[n]) for n in late]
                return [_iou(*pair) for pair in pairs]
        time.sleep(0.1)
    return [0.0]


def _iou(one_hw: Bool, other_hw: Bool) -> float:
    either = np.count_nonzero(one_hw | other_hw)
    return np.count_nonzero(one_hw & other_hw) / either if either else 0.0


class Masks:
    """Masks of the object that is compared, as they are published, by the number in their pictures."""

    def __init__(self, served: Served) -> None:
        self.by_number: dict[int, Bool] = {}
        self._served = served
        self._ended = Event()
        self._thread = Thread(target=self._listen)

    def __enter__(self) -> "Masks":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _listen(self) -> None:
        masks: dict[int, Bool] = {}  # by the daemon's own number
        with Client(self._served.control, timeout_s=30) as client:
            heard = client.subscribe(STREAM, ["tracks", "frames/full"], timeout_s=30)
            with heard, suppress(TrackerError):
                for message in heard:
                    if self._ended.is_set():
                        return
                    if isinstance(message.body, Tracks):
                        masks |= _mask_of(message.body)
                    elif isinstance(message.body, FrameMessage) and message.image is not None:
                        mask_hw = masks.pop(message.body.frame, None)
                        if mask_hw is not None:
                            self.by_number[number_in(imaging.decode(message.image))] = mask_hw


def _mask_of(tracks: Tracks) -> dict[int, Bool]:
    found = {}
    for record in tracks.objects:
        if record.label == LABEL and record.mask:
            found[tracks.frame] = rle_decode(record.mask.counts, record.mask.size)
    return found


# ------------------------------------------------------------------------------------------------------- the camera


@contextmanager
def camera() -> Iterator[str]:
    """Motion JPEG over HTTP; all who connect see the same pictures at the same time."""
    began_s = time.monotonic()
    ended = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            number = int((time.monotonic() - began_s) * FPS)
            with suppress(OSError):
                while not ended.wait(max(0.0, began_s + number / FPS - time.monotonic())):
                    jpeg = imaging.encode_jpeg(picture(number), 90)
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                    number += 1

        def log_message(self, format: str, *args: object) -> None:
            """Not a line for each."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/live"
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def picture(number: int) -> U8:
    """An ellipse that turns and goes round over a mottled ground; its number in the upper left corner."""
    rgb_hwc = _ground().copy()
    cv2.ellipse(rgb_hwc, centre(number), (75, 60), 3.0 * number, 0, 360, (200, 90, 60), -1)
    for bit in range(BITS):
        value = 255 if number >> bit & 1 else 0
        rgb_hwc[:BIT_PX, bit * BIT_PX : (bit + 1) * BIT_PX] = value
    return rgb_hwc


def centre(number: int) -> tuple[int, int]:
    return 445 + round(30 * np.sin(number / 9)), 240 + round(20 * np.cos(number / 7))


def _ground() -> U8:
    rng = np.random.default_rng(0)
    coarse_hwc = rng.integers(40, 140, (12, 20, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse_hwc, SIZE_WH, interpolation=cv2.INTER_CUBIC), np.uint8)


def number_in(rgb_hwc: U8) -> int:
    """The number that was drawn into a picture."""
    middle = BIT_PX // 2
    bits = [int(rgb_hwc[middle, bit * BIT_PX + middle].mean() > 128) << bit for bit in range(BITS)]
    return sum(bits)


ROWS = {same_masks_after_kill.__name__: same_masks_after_kill}
