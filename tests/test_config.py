"""Good and bad configuration files: what is accepted, and what each refusal says."""

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from tracker import config
from tracker.config import BufferConfig, Config, DiscoverConfig, StreamConfig
from tracker.errors import ConfigError

CAMERA = "streams: {cam1: {url: rtsp://cam1.local/live}}"

GOOD = {
    "empty file": ("", Config()),
    "only a comment": ("# nothing yet\n", Config()),
    "empty map": ("{}", Config()),
    "whole numbers where fractions may stand": ("publish: {outline_tolerance_px: 0}", None),
    "a stream with only its url": (CAMERA, None),
    "every character of a stream's name": ("streams: {a0_.-z: {url: x.mp4}}", None),
    "YAML anchors": ("streams: {a: &s {url: x.mp4, loop: true}, b: *s}", None),
}


@pytest.mark.parametrize(("text", "expected"), GOOD.values(), ids=GOOD.keys())
def test_good(text: str, expected: Config | None) -> None:
    parsed = config.parse(text)
    assert expected is None or parsed == expected


def test_values_arrive_where_they_belong() -> None:
    parsed = config.parse(
        "model: {name: sam2.1_hiera_small, checkpoint: /w.pt, device: 'cuda:1', image_size: 512}\n"
        "engine: {threads: 2}\n"
        "streams: {front-door: {url: door.mp4, pace: all, size: [640, 360], buffer: {seconds: 2}}}"
    )
    assert (parsed.model.device, parsed.model.image_size, parsed.engine.threads) == ("cuda:1", 512, 2)
    door = parsed.streams["front-door"]
    assert (door.url, door.pace, door.size) == ("door.mp4", "all", (640, 360))
    assert door.buffer == BufferConfig(seconds=2)


BAD = {
    # id: (text, what each problem must say, in order)
    "misspelt section": ("modle: {}", ["modle: unknown key; did you mean 'model'?"]),
    "unknown section": (
        "gizmo: {}",
        [
            "gizmo: unknown key; known here: control, describe, engine, keys, labels, limits, log, looks, metrics, "
            "model, persist, publish, streams"
        ],
    ),
    "misspelt key": ("engine: {theads: 2}", ["engine.theads: unknown key; did you mean 'threads'?"]),
    "misspelt key of a stream": (
        "streams: {cam1: {url: x, lop: true}}",
        ["streams.cam1.lop: unknown key; did you mean 'loop'?"],
    ),
    "misspelt key deep down": (
        "streams: {cam1: {url: x, buffer: {second: 3}}}",
        ["streams.cam1.buffer.second: unknown key; did you mean 'seconds'?"],
    ),
    "misspelt key of what may be left out": (
        "streams: {cam1: {url: x, discover: {every: 3}}}",
        ["streams.cam1.discover.every: unknown key; did you mean 'every_s'?"],
    ),
    "a switch for a section": (
        "streams: {cam1: {url: x, discover: true}}",
        ["streams.cam1.discover: must be a map, not bool"],
    ),
    "a section that may not be left empty": ("streams: {cam1: {url: x, buffer: }}", ["cam1.buffer: must be a map"]),
    "not a map": ("- a\n- b", ["must be a map of sections, not list"]),
    "a word": ("hello", ["must be a map of sections, not str"]),
    "zero is no empty file": ("0", ["must be a map of sections, not int"]),
    "section without content": ("engine:", ["engine: must be a map, not empty"]),
    "section is a list": ("engine: [1]", ["engine: must be a map, not list"]),
    "streams is a list": ("streams: [a.mp4]", ["streams: must be a map of stream names to their settings"]),
    "streams without content": ("streams:", ["streams: must be a map of stream names to their settings"]),
    "stream is a text": ("streams: {cam1: a.mp4}", ["streams.cam1: must be a map, not str"]),
    "stream without url": ("streams: {cam1: {loop: true}}", ["streams.cam1.url: is missing"]),
    "stream with an empty url": (
        "streams: {a: {url: ''}}",
        ["streams.a.url: must be text of at least 1 character"],
    ),
    "capital in a stream's name": (
        "streams: {Cam1: {url: x}}",
        ["streams.Cam1: a stream's name must be 1 to 64 of"],
    ),
    "space in a stream's name": (
        "streams: {'cam 1': {url: x}}",
        ["streams.cam 1: a stream's name must be 1 to 64 of"],
    ),
    "newline after a stream's name": ('streams: {"cam1\\n": {url: x}}', ["a stream's name must be 1 to 64 of"]),
    "slash in a stream's name": ("streams: {a/b: {url: x}}", ["streams.a/b: a stream's name must be 1 to 64 of"]),
    "stream's name too long": (f"streams: {{{'a' * 65}: {{url: x}}}}", ["a stream's name must be 1 to 64 of"]),
    "number as a stream's name": (
        "streams: {7: {url: x}}",
        ["streams.7: a stream's name must be text, and YAML takes this for a number: put it in quotes"],
    ),
    "a switch as a zone's name": (
        "streams: {a: {url: x, zones: {on: {line: [[1, 2], [3, 4]]}}}}",
        ["streams.a.zones.True: a zone's name must be text, and YAML takes this for true or false: put it in"],
    ),
    "a describer's address without a scheme": (
        "describe: {url: foo, model: x}",
        ["describe.url: must be text that begins with http:// or https:// and has no spaces (found 'foo')"],
    ),
    "figures' address without a port": (
        "metrics: {endpoint: localhost}",
        ["metrics.endpoint: must be text like HOST:PORT, such as 127.0.0.1:9464 (found 'localhost')"],
    ),
    "a merge of maps": (
        "streams: {a: &a {url: x}, b: {<<: *a, loop: true}}",
        ["not valid YAML: the merge key << is not understood; write out"],
    ),
    "text for a number": (
        "engine: {threads: two}",
        ["engine.threads: must be a whole number, not text (found 'two')"],
    ),
    "number in quotes": ("engine: {threads: '2'}", ["engine.threads: must be a whole number, not text"]),
    "yes for a number": ("engine: {threads: yes}", ["engine.threads: must be a whole number, not true or false"]),
    "fraction for a count": ("engine: {max_objects: 1.5}", ["engine.max_objects: must be a whole number"]),
    "number for a switch": (
        "streams: {a: {url: x, loop: 1}}",
        ["streams.a.loop: must be true or false, not a whole number"],
    ),
    "none for a value": ("engine: {dtype: }", ["engine.dtype: must be text, not nothing"]),
    "below the range": (
        "engine: {max_objects: 0}",
        ["engine.max_objects: must be a whole number of at least 1 (found 0)"],
    ),
    "above the range": (
        "publish: {jpeg_quality: 101}",
        ["publish.jpeg_quality: must be a whole number of at most 100"],
    ),
    "negative": (
        "publish: {outline_tolerance_px: -1}",
        ["publish.outline_tolerance_px: must be a number of at least 0"],
    ),
    "not a number": (
        "publish: {outline_tolerance_px: .nan}",
        ["publish.outline_tolerance_px: must be a finite number"],
    ),
    "what becomes infinite in bytes": (
        "{persist: {history_mib: 1.0e+308}, limits: {replies_mib: 1.0e+308}}",
        [
            "persist.history_mib: must be a number of at most 1000000000",
            "limits.replies_mib: must be a number of at most 1000000000",
        ],
    ),
    "more than a machine's memory": (
        f"limits: {{memory_mib: {10**30}}}",
        ["limits.memory_mib: must be a whole number"],
    ),
    "infinite": ("streams: {a: {url: x, fps: .inf}}", ["streams.a.fps: must be a finite number"]),
    "infinite, nested": (
        "streams: {a: {url: x, buffer: {seconds: .inf}}}",
        ["streams.a.buffer.seconds: must be a finite number"],
    ),
    "a whole share": ("engine: {catch_up_fraction: 1.0}", ["engine.catch_up_fraction: must be a number below 1"]),
    "image size between steps": (
        "model: {image_size: 500}",
        ["model.image_size: must be a whole number, a multiple of 32"],
    ),
    "not one of the choices": (
        "streams: {a: {url: x, pace: slow}}",
        ["streams.a.pace: 'slow' is not one of: real, all"],
    ),
    "one size number": ("streams: {a: {url: x, size: [640]}}", ["streams.a.size: must be a list of 2 items"]),
    "size with zero": (
        "streams: {a: {url: x, size: [640, 0]}}",
        ["streams.a.size[1]: must be a whole number of at least 1"],
    ),
    "options that are no text": (
        "streams: {a: {url: x, options: {b: 1}}}",
        ["streams.a.options[...]: must be text"],
    ),
    "the same key twice": (
        "engine: {threads: 1}\nengine: {threads: 2}",
        ["not valid YAML: the key 'engine' stands twice"],
    ),
    "a number with zeros before it": (
        "engine: {history_frames: 0100}",
        ["not valid YAML: 0100 is read to the base 8: write 100, or put text in quotes (line 1, column 26)"],
    ),
    "a number to the base 60": (
        "engine: {history_frames: 1:30}",
        [
            "not valid YAML: 1:30 is read to the base 60: write a plain number, or put text in quotes "
            "(line 1, column 26)"
        ],
    ),
    "two documents": ("{}\n---\n{}", ["not valid YAML: a second document begins; one is read (line 2, column 1)"]),
    "the same stream twice": ("streams: {a: {url: x}, a: {url: y}}", ["not valid YAML: the key 'a' stands twice"]),
    "broken YAML": ("engine: {threads: 1", ["not valid YAML:"]),
    "a tab": ("engine:\n\tthreads: 1", ["not valid YAML:"]),
    "a Python object": (
        "engine: !!python/object/apply:os.getcwd []",
        ["not valid YAML: a value has a tag; plain text"],
    ),
    "nested without end": ("[" * 3000, ["not valid YAML: lists and maps are nested too deep"]),
    "a past of for ever": (
        "streams: {a: {url: x, buffer: {seconds: 1.0e+308, mib: 1.0e+308}}}",
        [
            "streams.a.buffer.seconds: must be a number of at most 86400",
            "streams.a.buffer.mib: must be a number of at most 1048576",
        ],
    ),
    "a list as a key": ("? [a]\n: 1", ["a key is a list or a map; keys are text"]),
    "aliases that refer to themselves": ("a: &a [*a]", ["a: unknown key"]),
    "everything wrong at once": (
        "engine: {threads: 0, dtype: int4}\nstreams: {a: {}}\nlogg: {}",
        ["engine.threads:", "engine.dtype:", "streams.a.url: is missing", "logg: unknown key; did you mean 'log'?"],
    ),
}


@pytest.mark.parametrize(("text", "problems"), BAD.values(), ids=BAD.keys())
def test_bad(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text, "daemon.yaml")
    assert len(refused.value.problems) == len(problems)
    for found, expected in zip(refused.value.problems, problems, strict=True):
        assert found.startswith("daemon.yaml: ")
        assert expected.lower() in found.lower()
    assert str(refused.value) == "\n".join(refused.value.problems)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: .*No such file"):
        config.load(tmp_path / "none.yaml")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(b"\x00\x00\x00\x20ftypisom\xff\xfe")
    with pytest.raises(ConfigError, match=r"video\.mp4"):
        config.load(path)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        config.load(tmp_path)


def test_what_was_parsed_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        config.parse("").engine.threads = 3  # type: ignore[misc]


def test_a_value_is_said_once() -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse("engine: {mode: quick, conditioning_frames: 7}")
    assert refused.value.problems == [
        "config: engine.mode: 'quick' is not one of: exact, fast",
        "config: engine.conditioning_frames: 7 is not one of: 4, 8, 16",
    ]


EXAMPLE = Path(__file__).parent.parent / "configs" / "example.yaml"


def test_the_sample_of_the_service_is_accepted_and_serves_nobody_from_outside() -> None:
    sample = config.load(EXAMPLE.with_name("service.yaml"))
    assert sample.control.endpoint.startswith("ipc:///run/tracker/")
    assert sample.publish.endpoint.startswith("ipc:///run/tracker/")
    assert sample.metrics.endpoint == "127.0.0.1:9464"


def test_the_camera_in_the_sample_of_the_service_is_there_once_its_lines_are_no_comments() -> None:
    sample = EXAMPLE.with_name("service.yaml").read_text()
    gate = config.parse(re.sub(r"^#(?= *\w+:)", "", sample, flags=re.MULTILINE)).streams["gate"]
    assert (gate.username_env, gate.password_file) == ("GATE_USER", "gate")


def test_the_example_is_accepted() -> None:
    assert config.load(EXAMPLE).streams["example"].url == "video.mp4"


def test_the_example_names_every_key_with_its_default() -> None:
    shown = yaml.safe_load(EXAMPLE.read_text())
    stream = shown.pop("streams")["example"]
    expected = msgspec.to_builtins(Config())
    del expected["streams"]
    assert shown == expected
    assert stream == msgspec.to_builtins(StreamConfig(url="video.mp4"))


def test_the_example_shows_how_discover_is_turned_on() -> None:
    shown = re.search(r"\{every_s.*?\}", EXAMPLE.read_text(), re.DOTALL)
    assert shown
    assert yaml.safe_load(shown[0].replace("#", "")) == msgspec.to_builtins(DiscoverConfig())


@pytest.mark.parametrize(
    "text", ["engine: {{mode: x{0}}}", "engine: {{threads: x{0}}}", "engine: {{threads: {0}}}", "x{0}: 1"]
)
def test_of_a_value_that_is_a_book_little_is_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text.format("9" * 100_000))
    assert len(str(caught.value)) < 1000
