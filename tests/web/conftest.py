"""A browser ends its helpers when it likes, so what is left behind is looked at when all tests are over."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest

from helpers.fake_daemon import FakeDaemon
from helpers.leaks import no_leaks
from helpers.pages import chromium, page_server
from helpers.pond_page import Film, Pond, filmed, pond_daemon
from tracker.client import Client


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if request.node.get_closest_marker("browser") else no_leaks():
        yield


@pytest.fixture(scope="module")
def daemon() -> Iterator[FakeDaemon]:
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return filmed(tmp_path_factory.mktemp("film") / "pond.mp4")


@pytest.fixture(scope="module")
def pond(tmp_path_factory: pytest.TempPathFactory, film: Film) -> Iterator[Pond]:
    with pond_daemon(tmp_path_factory.mktemp("pond"), film) as pond:
        yield pond


@pytest.fixture(scope="module")
def address(pond: Pond) -> Iterator[str]:
    with page_server(pond.control) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def client(pond: Pond) -> Iterator[Client]:
    """Leaves no objects to the next test."""
    with Client(pond.control, timeout_s=60) as client:
        client.info()
        yield client
        client.remove("pond", all=True)
