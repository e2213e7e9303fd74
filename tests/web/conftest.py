"""A browser ends its helpers when it likes, so what is left behind is looked at when all tests are over."""

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from helpers.leaks import no_leaks


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    with nullcontext() if request.node.get_closest_marker("browser") else no_leaks():
        yield
