"""The page's server as a process of its own, and a headless Chromium that looks at it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.tracking import wait_until

TRACKERD = str(Path(sys.executable).with_name("trackerd"))
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SAID = "the page is at "
STOP_S = 10
PATIENCE_MS = 30_000


@contextmanager
def page_server(
    control: str, *options: str, listen: str = "127.0.0.1:0", trackerd: Sequence[str] = (TRACKERD,)
) -> Iterator[str]:
    """`trackerd web` for the daemon at `control`; yields the page's address."""
    command = [*trackerd, "web", "--daemon", control, "--listen", listen, *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if SAID in line:
                    break
            else:
                raise AssertionError("".join(lines))
            yield line.partition(SAID)[2].strip()
        finally:
            process.terminate()
            process.wait(STOP_S)


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; it talks to this machine alone."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """A page in a profile of its own. Fails on anything that the page's scripts did not catch."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    uncaught: list[str] = []
    page.on("pageerror", lambda error: uncaught.append(str(error)))
    try:
        page.goto(address)
        yield page
        assert not uncaught
    finally:
        context.close()


def app(page: Any, expression: str) -> Any:
    """The value of an expression in the page, where `app` is the page's own."""
    return page.evaluate(f"import('/static/app.js').then(({{ app }}) => {expression})")


def until(page: Any, expression: str, timeout_s: float = 60) -> Any:
    """The value of an expression in the page, once it is true. (Playwright's own way evaluates texts, which the
    page's policy forbids.)"""
    value = None

    def holds() -> bool:
        nonlocal value
        value = app(page, expression)
        return bool(value)

    wait_until(holds, timeout_s)
    return value


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Where a source pixel of the large picture is in the window."""
    script = """
        import('/static/app.js').then(({ app: { view } }) => {
          const bounds = view.canvas.getBoundingClientRect();
          const ratio = bounds.width / view.canvas.width;
          return [bounds.left + (view.origin[0] + X * view.across) * ratio,
                  bounds.top + (view.origin[1] + Y * view.scale) * ratio];
        })"""
    left, top = page.evaluate(script.replace("X", str(x)).replace("Y", str(y)))
    return left, top


def serious_for_axe(page: Any) -> list[tuple[str, list[str]]]:
    """What axe-core finds serious or critical: rules, and the elements that break them."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    serious = [v for v in violations if v["impact"] in ("serious", "critical")]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in serious]
