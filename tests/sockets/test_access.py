"""Which endpoints a daemon may bind."""

from pathlib import Path

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


def test_a_path_where_no_socket_can_be_bound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused = {
        f"ipc://{tmp_path}": "a file that is no socket stands there",
        f"ipc://{tmp_path}/file": "a file that is no socket stands there",
        f"ipc://{tmp_path}/file/control.sock": f"{tmp_path}/file is no folder",
        f"ipc:///tmp/{'a' * 103}": "is a path of 108 bytes; a socket's has 107 at most",
        f"ipc:///tmp/{'ä' * 60}": "is a path of 125 bytes; a socket's has 107 at most",
    }
    for endpoint, why in refused.items():
        with pytest.raises(ConfigError, match=f"control.endpoint: {endpoint} .*{why}"):
            access.check(config(endpoint))


def test_a_folder_that_systemd_makes_at_the_start_may_be_missing(tmp_path: Path) -> None:
    access.check(config(f"ipc://{tmp_path}/run/control.sock"))


@pytest.mark.parametrize(
    ("control", "publish"),
    [
        ("tcp://127.0.0.1:5570", "tcp://127.0.0.1:5570"),
        ("ipc:///tmp/a.sock", "ipc:///tmp/a.sock"),
        ("ipc:///tmp/a.sock", "ipc:///tmp//a.sock"),
        ("ipc:///tmp/a.sock", "ipc:///tmp/b/../a.sock"),
    ],
)
def test_two_sockets_in_one_place_are_refused_however_it_is_spelled(control: str, publish: str) -> None:
    with pytest.raises(ConfigError, match=r"publish\.endpoint: is control\.endpoint as well; give each its own"):
        access.check(config(control, publish))
