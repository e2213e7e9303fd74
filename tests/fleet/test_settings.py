"""What boxes and people write down is refused with what is wrong and what would be right."""

import socket
from pathlib import Path

import pytest

from tracker.errors import BadRequest, ConfigError
from tracker.fleet.metrics import Figures, serving
from tracker.fleet.records import needs_key, satisfied
from tracker.fleet.settings import WantedStream, load_box, load_cameras, to_json
from tracker.protocol.placement import Token, key_of, name_of

BOXES = [
    ("box: North", "box: must be text: 1 to 64 of a-z"),
    ("nats: {server: x}", "nats.server: unknown key; did you mean 'servers'?"),
    ("nats: {servers: []}", "nats.servers: must be a list of at least 1 item"),
    ("nats: {replicas: 7}", "nats.replicas: must be a whole number of at most 5"),
    ("room: {streams: 0}", "room.streams: must be a whole number of at least 1"),
    ("mirror: often", "mirror: must be true or false, not text"),
    ("labels: [north]", "labels: must be a map, not a list"),
    ("metrics: {endpoint: everywhere}", "metrics.endpoint"),
    ("advertise: {publish: 10.0.0.5}", "advertise.publish: must be text that begins with tcp:// or ipc://"),
    ("room: {streams: 99999999999999999999}", "room.streams: must be a whole number of at most 2147483647"),
    ("a: [", "not valid YAML"),
    ("daemon: {control: here}", "daemon.control: must be text that begins with tcp:// or ipc://"),
    ("5", "file.yaml: must be a map, not int"),
    ("[]", "file.yaml: must be a map, not list"),
    ("labels: {rank: 99999999999999999999}", "labels[...]: must be a whole number of at most 9223372036854775807"),
    ("labels: {1: x}", "labels: a key must be text, not a whole number"),
]
CAMERAS = [
    ("cam1: {url: x}", "must be a map with the one key streams"),
    ("streams: {Cam: {url: x}}", "streams.Cam: a stream's name must be"),
    ("streams: {cam1: {}}", "streams.cam1.url: is missing"),
    ("streams: {cam1: {url: x, needs: {site: [a]}}}", "streams.cam1.needs"),
    ("streams: {cam1: {url: x, size: [99999999999999999999, 1]}}", "must be a whole number of at most 2147483647"),
    ("streams: {cam1: {url: x, fsp: 3}}", "streams.cam1.fsp: unknown key; did you mean 'fps'?"),
    ('streams: {cam1: {url: "\\ud800"}}', "a character that has no place in a text (line 1, column 23)"),
    ("streams: {cam1: {url: 9999-99-99}}", "'9999-99-99' looks like a number or a date, and is none"),
    (f"streams: {{cam1: {{url: {'x' * 70_000}}}}}", "streams.cam1: its settings take 70010 bytes; at most 65536"),
    ("streams: {cam1: {url: 'rtsp://user:word@cam/live'}}", "name them with username_env"),
]


def written(folder: Path, text: str) -> Path:
    path = folder / "file.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("text", "says"), BOXES)
def test_a_wrong_box_is_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_box(written(tmp_path, text))
    assert says in refused.value.message
    assert "word" not in refused.value.message


@pytest.mark.parametrize(("text", "says"), CAMERAS)
def test_wrong_cameras_are_refused(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load_cameras(written(tmp_path, text))
    assert says in refused.value.message


def test_a_box_needs_nothing_but_what_differs(tmp_path: Path) -> None:
    config = load_box(written(tmp_path, "{box: north-1, labels: {gpu: true}}"))
    assert (config.name, config.labels, config.room.streams) == ("north-1", {"gpu": True}, 16)
    assert load_box(written(tmp_path, "")).nats.servers == ("nats://127.0.0.1:4222",)


def test_settings_are_kept_without_what_is_as_by_default(tmp_path: Path) -> None:
    cameras = load_cameras(written(tmp_path, "streams: {cam1: {url: 'rtsp://cam/live', needs: {b: 1, a: x}}}"))
    assert to_json(cameras["cam1"]) == b'{"needs":{"a":"x","b":1},"url":"rtsp://cam/live"}'
    assert cameras["cam1"].config().url == WantedStream(url="rtsp://cam/live").url


@pytest.mark.parametrize(
    ("needs", "labels", "fits"),
    [
        ({}, {}, True),
        ({"gpu": True}, {"gpu": True, "site": "north"}, True),
        ({"gpu": True}, {}, False),
        ({"site": "south"}, {"site": "north"}, False),
    ],
)
def test_needs(needs: dict[str, object], labels: dict[str, object], fits: bool) -> None:
    assert satisfied(needs, labels) is fits


def test_equal_needs_have_one_key() -> None:
    assert needs_key({}) == "any"
    assert needs_key({"a": 1, "b": 2}) == needs_key({"b": 2, "a": 1}) != needs_key({"a": 1})


def test_tokens_are_in_order_of_sequence_and_then_of_deliveries() -> None:
    texts = ["9.2", "9.10", "10.1"]
    assert sorted(map(Token.parse, reversed(texts))) == [Token.parse(text) for text in texts]
    assert str(Token.parse("9.10")) == "9.10"
    for wrong in ("", "9", "9.", ".1", "9.1.2", "a.b", "-1.2", "٣.1"):
        with pytest.raises(BadRequest, match="no token"):
            Token.parse(wrong)


def test_names_become_one_token_of_a_subject() -> None:
    assert key_of("hall.door-2_a") == "hall=door-2_a"
    assert name_of(key_of("hall.door")) == "hall.door"


def test_an_endpoint_for_metrics_that_cannot_be_had_is_said_in_words() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        cases = [
            (f"127.0.0.1:{taken.getsockname()[1]}", "Address already in use"),
            ("127.0.0.1:99999", "there is no such port"),
        ]
        for endpoint, says in cases:
            with pytest.raises(ConfigError) as refused, serving(endpoint, Figures(dict)):
                pass
            assert refused.value.problems == [f"metrics.endpoint: {endpoint} cannot be bound: {says}"]
