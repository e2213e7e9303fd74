"""Which endpoints a daemon may bind."""

import pytest

from tracker.config import Config, ControlConfig, PublishConfig
from tracker.errors import ConfigError
from tracker.sockets import access


def config(control: str, publish: str = "tcp://127.0.0.1:*") -> Config:
    return Config(control=ControlConfig(endpoint=control), publish=PublishConfig(endpoint=publish))


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:5570",
        "tcp://127.8.9.1:*",
        "tcp://localhost:5570",
        "tcp://[::1]:5570",
        "ipc:///run/tracker/control.sock",
    ],
)
def test_loopback_and_paths_are_fine(endpoint: str) -> None:
    access.check(config(endpoint))


def test_the_defaults_are_fine() -> None:
    access.check(Config())


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://0.0.0.0:5570",
        "tcp://*:5570",
        "tcp://192.168.1.5:5570",
        "tcp://[::]:5570",
        "tcp://eth0:1",
        "tcp://cam.example.org:1",
    ],
)
def test_a_network_without_keys_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"control\.endpoint: .* can be reached from the network.*use tcp://127"):
        access.check(config(endpoint))


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "5570",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:99999",
        "tcp://::1:5570",
        "ipc://relative",
        "ipc://@x",
        "inproc://x",
        "udp://127.0.0.1:1",
    ],
)
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"publish\.endpoint: .* is neither tcp://HOST:PORT nor ipc:///absolute"):
        access.check(config("tcp://127.0.0.1:1", endpoint))


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        access.check(config("tcp://*:1", "tcp://*:1"))
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "control.endpoint",
        "publish.endpoint",
        "publish.endpoint",
    ]
