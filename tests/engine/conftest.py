"""One thread: networks this small are many times slower on two where something else runs beside the tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # after tests/conftest.py has set its own count, which it does for every test
