"""Takes the pictures of the page in docs/images, from the real daemon on the pond.

    PYTHONPATH=tests:tools .venv/bin/python -m helpers.page_pictures [--out docs/images]

On a quiet machine: the page says how many frames a second it gets. Look at each of them afterwards.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from helpers.clips import save_tiny_clip
from helpers.pages import app, at, chromium, page_server, until
from helpers.pond_page import Pond, click, filmed, frozen_on, looking, pond_daemon, previewed
from helpers.tracking import wait_until
from tracker.client import Client
from tracker.config import ZoneConfig

WALL = {"viewport": {"width": 1920, "height": 1080}}
DESK = {"viewport": {"width": 1440, "height": 900}}
PHONE = {"viewport": {"width": 400, "height": 865}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
FRAME = 16  # of the film: all fish are well in sight
CHARTED_S = 8.0
QUALITY = 85


class Camera:
    """Where pictures go."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def take(self, page: Any, name: str, width: int) -> None:
        shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        height = round(shot.height * width / shot.width)
        shot.resize((width, height), Image.Resampling.LANCZOS).save(self._out / f"{name}.jpg", quality=QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    camera = Camera(parser.parse_args().out)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_tiny_clip(folder / "clip")
        with (
            serving(folder) as (pond, address),
            chromium() as browser,
            Client(pond.control, timeout_s=60) as client,
        ):
            client.info()
            pointing(camera, browser, address, client, pond)
            furnish(client, pond)
            panels(camera, browser, address, client)


@contextmanager
def serving(folder: Path) -> Iterator[tuple[Pond, str]]:
    kept = {"persist": {"dir": str(folder / "state")}, "looks": {"every_s": 0.5}}
    labels = {"model": str(folder / "clip"), "device": "cpu"}
    film = filmed(folder / "pond.mp4")
    slow = {"url": str(film.path), "loop": True, "pace": "all"}  # followed as well on a machine with other work
    with (
        pond_daemon(folder, film, {"pond": slow, "gate": slow}, **kept, labels=labels) as pond,
        page_server(pond.control) as address,
    ):
        yield pond, address


# ------------------------------------------------------------------------------------------ pointing at a fish


def pointing(camera: Camera, browser: Any, address: str, client: Client, pond: Pond) -> None:
    with looking(browser, f"{address}s/pond", color_scheme="dark", **DESK) as page:
        frame = frozen_on(page, FRAME)
        click(page, pond.inside(frame, 1))
        previewed(page, 3)
        camera.take(page, "page-candidates-dark", 1120)
        page.keyboard.press("Escape")
    with looking(browser, f"{address}s/pond", color_scheme="light", **DESK) as page:
        frame = frozen_on(page, FRAME)
        fish = client.add("pond", frame=frame, points=[pond.inside(frame, 2)], label="koi").object
        page.keyboard.press("Escape")
        page.click(f".object[data-object='{fish}'] button:has-text('Correct')")
        frozen_again(page, frame)
        click(page, pond.inside(frame, 2))
        page.wait_for_selector("#events li:has-text('object refined')")
        camera.take(page, "page-correcting-light", 1120)
        page.keyboard.press("Escape")
        client.remove("pond", all=True)
    with looking(browser, f"{address}s/pond", color_scheme="light", **DESK) as page:
        frame = frozen_on(page, FRAME)
        page.click("#find")
        until(page, "app.everything.masks.length", timeout_s=120)
        page.mouse.click(*at(page, *pond.inside(frame, 1)))
        camera.take(page, "page-everything-light", 1120)
        page.keyboard.press("Escape")


def frozen_again(page: Any, frame: int) -> None:
    app(page, f"app.hold.goTo({frame})")
    until(page, f"app.view.picture.frame === {frame}")


# ------------------------------------------------------------------------------------------ with every panel full


def furnish(client: Client, pond: Pond) -> None:
    """Two fish on one stream and one on the other, a line and a zone, and somebody who is waited for."""
    client.set_zone("pond", "inlet", ZoneConfig(line=((320, 20), (320, 340))))
    client.set_zone("pond", "reeds", ZoneConfig(polygon=[(420, 40), (620, 40), (620, 200), (420, 200)]))
    for stream, fish, label in (("pond", 1, "koi"), ("pond", 2, "carp"), ("gate", 1, "koi")):
        frame = frame_with(client, pond, stream, fish)
        client.add(stream, frame=frame, points=[pond.inside(frame, fish)], label=label)
    wait_until(lambda: len(client.similar(stream="pond", object=last(client, "pond")).hits) >= 2, timeout_s=60)
    client.pause_stream("gate")  # the model has time for what is looked at
    client.watch_for("the white koi", stream="pond", object=first(client, "pond"), threshold=0.85)


def frame_with(client: Client, pond: Pond, stream: str, fish: int) -> int:
    """A frame on which a fish is well in sight."""
    while not pond.whole(frame := client.snapshot(stream, pin_s=60).frame, fish):
        time.sleep(0.5)
    return frame


def first(client: Client, stream: str) -> int:
    return client.objects(stream).objects[0].object


def last(client: Client, stream: str) -> int:
    return client.objects(stream).objects[-1].object


def panels(camera: Camera, browser: Any, address: str, client: Client) -> None:
    for scheme in ("dark", "light"):
        with looking(browser, f"{address}s/pond", color_scheme=scheme, **WALL) as page:
            page.click(f".object[data-object='{first(client, 'pond')}'] .choose")
            time.sleep(CHARTED_S)
            camera.take(page, f"page-wall-{scheme}", 1440)
            page.click(f"[aria-label='Where else? object {first(client, 'pond')}']")
            page.wait_for_selector("#similar-hits li")
            if scheme == "dark":
                page.click(f".object[data-object='{last(client, 'pond')}'] .choose")
                page.click("#watch-begin")
                page.keyboard.type("the orange one")
            time.sleep(1)
            camera.take(page, f"page-panels-{scheme}", 1440)
        with looking(browser, f"{address}s/pond", color_scheme=scheme, **PHONE) as page:
            time.sleep(CHARTED_S)
            camera.take(page, f"page-phone-{scheme}", 480)
            if scheme == "dark":
                page.locator("#watch-title").scroll_into_view_if_needed()
                page.evaluate("document.getElementById('watch-title').scrollIntoView()")
                camera.take(page, "page-panels-phone-dark", 480)


if __name__ == "__main__":
    main()
