"""A token typed into a real browser: only that sends the Origin, the Referer and the cookies that browsers send."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.fake_daemon import FakeDaemon
from helpers.pages import open_page, page_server

pytestmark = pytest.mark.browser

TOKEN = "correct horse battery"


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    return path


@pytest.fixture(scope="module")
def address(daemon: FakeDaemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("token") / "token"
    path.write_text(TOKEN)
    with page_server(daemon.control.endpoint, "--token-file", str(path)) as address:
        yield address


def sign_in(page: Any, token: str) -> None:
    page.fill("[name=token]", token)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("wanted", ["", "s/cam1?kiosk"])
def test_whoever_signs_in_sees_the_page_that_was_asked_for(address: str, browser: Any, wanted: str) -> None:
    with open_page(browser, f"{address}{wanted}") as page:
        sign_in(page, TOKEN)
        page.wait_for_selector("body[data-daemon=answers]")
        assert page.url == f"{address}{wanted}"
        (cookie,) = page.context.cookies()
        assert cookie["expires"] > 0  # it outlives the browser: nobody types on a wall


def test_a_wrong_token_is_called_wrong_and_the_next_try_still_leads_there(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}s/cam1") as page:
        sign_in(page, "a wrong horse battery")
        page.wait_for_selector("[role=alert]:has-text('That is not the token.')")
        sign_in(page, TOKEN)
        page.wait_for_selector("body[data-daemon=answers]")
        assert page.url == f"{address}s/cam1"


def test_signing_in_leads_nowhere_else(address: str, browser: Any) -> None:
    with open_page(browser, f"{address}?to=//evil.example") as page:
        page.evaluate("document.querySelector('form').action = '/login?to=//evil.example/'")
        sign_in(page, TOKEN)
        page.wait_for_selector("body[data-daemon=answers]")
        assert page.url.startswith(address)


def test_an_open_page_asks_anew_once_the_token_has_changed(
    daemon: FakeDaemon, token_file: Path, browser: Any
) -> None:
    with ExitStack() as stack:
        with page_server(daemon.control.endpoint, "--token-file", str(token_file)) as address:
            page = stack.enter_context(open_page(browser, f"{address}s/cam1"))
            sign_in(page, TOKEN)
            page.wait_for_selector("body[data-daemon=answers]")
        token_file.write_text("another horse battery")
        listen = address.removeprefix("http://").strip("/")
        with page_server(daemon.control.endpoint, "--token-file", str(token_file), listen=listen):
            page.wait_for_selector("[name=token]")
            sign_in(page, "another horse battery")
            page.wait_for_selector("body[data-daemon=answers]")
            assert page.url == f"{address}s/cam1"
