"""Measures the page: 1080p, 8 objects, 25 frames/s, a fake model; drawn frames, latency, processor time, viewers.

    PYTHONPATH=tests:tools .venv/bin/python -m helpers.page_speed [--link BYTES_S]

`--link`: instead one browser behind a link of so many bytes a second, which holds all that is sent faster.
Latency goes from the decoded frame to the drawn picture, by the clock of this machine, which browser, server and
daemon share. `jpeg_core` is the daemon's delivery thread (geometry, records, JPEGs), `server_core` the page's
server, `browser_core` all of Chromium, which draws in software here: processor seconds a second.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import psutil

from helpers.fakes import BlobEngine
from helpers.pages import app, chromium, open_page, page_server, until
from helpers.proxies import proxied
from helpers.tracking import Talk, configuration, serving
from tracker.images.video_writer import VideoWriter

SIZE_WH = (1920, 1080)
FPS, FILM_S, OBJECTS = 25, 4, 8
WARM_UP_S, MEASURED_S = 4.0, 12.0


def place(k: int, phase: float) -> tuple[int, int]:
    x, y = 240 + 480 * (k % 4), 270 + 540 * (k // 4)
    return round(x + 60 * math.sin(phase + k)), round(y + 60 * math.cos(phase + 2 * k))


def film(path: Path) -> Path:
    coarse_hwc = np.random.default_rng(0).integers(20, 90, (54, 96, 3), np.uint8)
    ground_hwc = np.asarray(cv2.resize(coarse_hwc, SIZE_WH), np.uint8)
    with VideoWriter(path, SIZE_WH, FPS) as video:
        for frame in range(FILM_S * FPS):
            picture_hwc = ground_hwc.copy()
            for k in range(OBJECTS):
                cv2.circle(picture_hwc, place(k, 2 * math.pi * frame / (FILM_S * FPS)), 120, (235, 235, 235), -1)
            video.write(picture_hwc)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--link", type=int, metavar="BYTES_S")
    link_bytes_s = parser.parse_args().link
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        url = str(film(Path(folder) / "film.mp4"))
        config = configuration(streams={"cam": {"url": url, "loop": True, "buffer": {"seconds": 2}}})
        with serving(config, BlobEngine()) as talk, page_server(talk.daemon.control.endpoint) as address:
            talk.wait_for_frame(5)
            frame = talk.ask("streams.list")["streams"][0]["frame"]
            for k in range(OBJECTS):
                phase = 2 * math.pi * frame / (FILM_S * FPS)
                talk.ask("objects.add", stream="cam", frame=frame, points=[place(k, phase)])
            server = psutil.Process().children()
            pid = next(child.pid for child in server if "web" in child.cmdline())
            if link_bytes_s is not None:
                say(behind_link(browser, talk, address, pid, link_bytes_s))
                return
            for viewers, width in ((1, 1280), (1, 1920), (10, 1280)):
                say(measured(browser, talk, address, pid, viewers, width))


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


def behind_link(browser: Any, talk: Talk, address: str, pid: int, bytes_s: int) -> dict[str, Any]:
    with proxied(urlsplit(address).port or 80, bytes_s) as proxy:
        line = measured(browser, talk, f"http://127.0.0.1:{proxy.port}/", pid, 1, 1280)
    return {"link_bytes_s": bytes_s, **line}


def measured(browser: Any, talk: Talk, address: str, pid: int, viewers: int, width: int) -> dict[str, Any]:
    """One page draws; the other viewers only take the pictures, as a busy Chromium would hide the server's cost."""
    kiosk = {"viewport": {"width": width, "height": width * 9 // 16}}
    with ExitStack() as stack:
        page = stack.enter_context(open_page(browser, f"{address}s/cam?kiosk", **kiosk))
        for _ in range(viewers - 1):
            other = stack.enter_context(open_page(browser, f"{address}static/icon.svg"))
            other.evaluate(VIEWER.replace("WIDTH", str(width)))
        until(page, "app.drawnFrames > 10")
        time.sleep(WARM_UP_S)
        app(page, "app.latenciesS.length = 0")
        cpu_s, drawn, published = cpu(pid), app(page, "app.drawnFrames"), pictures(talk)
        began_s = time.monotonic()
        time.sleep(MEASURED_S)
        took_s = time.monotonic() - began_s
        latencies_ms = np.array(app(page, "app.latenciesS")) * 1000
        jpeg_s, server_s, browser_s = (after - before for after, before in zip(cpu(pid), cpu_s, strict=True))
        return {
            "viewers": viewers,
            "width": width,
            "drawn_fps": round((app(page, "app.drawnFrames") - drawn) / took_s, 1),
            "published_fps": round((pictures(talk) - published) / took_s, 1),
            "latency_ms_p50": round(float(np.percentile(latencies_ms, 50)), 1),
            "latency_ms_p99": round(float(np.percentile(latencies_ms, 99)), 1),
            "jpeg_core": round(jpeg_s / took_s, 2),
            "server_core": round(server_s / took_s, 2),
            "browser_core": round(browser_s / took_s, 2),
        }


# Not from a document of ours, so that the policy of the icon's answer lets it connect, and nothing is decoded.
VIEWER = """() => {
  const socket = new WebSocket(`ws://${location.host}/ws`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify({ kind: "look", streams: { cam: WIDTH } }));
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") socket.send(JSON.stringify({ kind: "drawn", stream: "cam" }));
  };
}"""


def pictures(talk: Talk) -> int:
    """Pictures published so far, all widths together."""
    seqs = talk.daemon.publisher._seqs
    return sum(seq for topic, seq in seqs.items() if topic.startswith("frames/"))


def cpu(pid: int) -> tuple[float, float, float]:
    """Processor seconds of the daemon's delivery thread, of the page's server, and of the browser."""
    delivery_s = 0.0
    for thread in psutil.Process().threads():
        if Path(f"/proc/self/task/{thread.id}/comm").read_text().strip() == "delivery":
            delivery_s += thread.user_time + thread.system_time
    browser = [p for p in psutil.Process().children(recursive=True) if "chrom" in p.name()]
    return delivery_s, spent_s(psutil.Process(pid)), sum(map(spent_s, browser))


def spent_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
