"""What a box is told by its configuration file, and which streams people want: YAML to frozen records."""

import re
import socket
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, structs

from tracker.client import CONTROL
from tracker.client.nats_options import NatsOptions
from tracker.config import STREAM_NAME, Count, MetricsConfig, Section, StreamConfig, Unit, struct_problems
from tracker.config.wording import NAME_RULE, name_problem, why_unreadable
from tracker.errors import ConfigError
from tracker.protocol.placement import Endpoint

MAX_LABELS = 16
Text = Annotated[str, Meta(min_length=1, max_length=64)]
MAX_SETTINGS_BYTES = 64 << 10

WholeNumber = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Labels = Annotated[dict[Text, str | bool | WholeNumber], Meta(max_length=MAX_LABELS)]


class NatsConfig(Section, frozen=True):
    servers: Annotated[tuple[str, ...], Meta(min_length=1)] = ("nats://127.0.0.1:4222",)
    credentials: str | None = None  # a .creds file
    ca: str | None = None
    certificate: str | None = None
    certificate_key: str | None = None
    replicas: Annotated[int, Meta(ge=1, le=5)] = 1  # copies of what JetStream keeps: 3 on three servers

    def options(self) -> NatsOptions:
        return NatsOptions(self.servers, self.credentials, self.ca, self.certificate, self.certificate_key)


class DaemonConfig(Section, frozen=True):
    """The box's own daemon."""

    control: Endpoint = CONTROL
    key: str | None = None  # a key file that the daemon allows for both sockets


class AdvertiseConfig(Section, frozen=True):
    """Endpoints at which readers on other machines reach the daemon; None: those by which it is reached here."""

    control: Endpoint | None = None
    publish: Endpoint | None = None


class RoomConfig(Section, frozen=True):
    """How much the box takes, beside what its daemon's admission says."""

    streams: Count = 16  # decoders
    memory_fraction: Unit = 0.9  # of the device's memory: above, nothing more is taken


class JobsConfig(Section, frozen=True):
    """Files that the box works on while it has nothing better to do."""

    inputs: list[str] = []  # folders of which files may be named; none: the box does no jobs
    results: str | None = None  # a folder that all boxes share; None: results go into NATS's object store
    device: str = "auto"


class BoxConfig(Section, frozen=True):
    box: Annotated[str, Meta(pattern=STREAM_NAME)] | None = None  # None: the host's name
    nats: NatsConfig = NatsConfig()
    daemon: DaemonConfig = DaemonConfig()
    advertise: AdvertiseConfig = AdvertiseConfig()
    labels: Labels = {}
    room: RoomConfig = RoomConfig()
    mirror: bool = False  # publish tracks, events and status into NATS too
    jobs: JobsConfig = JobsConfig()
    metrics: MetricsConfig = MetricsConfig()

    @property
    def name(self) -> str:
        """Raises ConfigError where the host's name is none for a box."""
        name = self.box or socket.gethostname().lower()
        if not re.match(STREAM_NAME, name):
            raise ConfigError([f"box: the host's name {name!r} is none for a box; give one: {NAME_RULE}"])
        return name


class WantedStream(StreamConfig, frozen=True):
    """A stream that people want, and what a box must have for it."""

    needs: Labels = {}

    def config(self) -> StreamConfig:
        fields = StreamConfig.__struct_fields__
        return StreamConfig(**{name: getattr(self, name) for name in fields})


def load_box(path: Path) -> BoxConfig:
    """Raises ConfigError with every problem found."""
    data = _yaml(path)
    problems = [f"{path}: {problem.lstrip('.: ')}" for problem in struct_problems("", data, BoxConfig)]
    if problems:
        raise ConfigError(problems)
    return msgspec.convert(data, BoxConfig)


def load_cameras(path: Path) -> dict[str, WantedStream]:
    """`streams:` of a file, by name. Raises ConfigError with every problem found."""
    data = _yaml(path)
    streams = data.get("streams") if isinstance(data, dict) else None
    if not isinstance(streams, dict) or list(data) != ["streams"]:
        raise ConfigError([f"{path}: must be a map with the one key streams: names of streams to their settings"])
    problems = [problem for name, fields in streams.items() for problem in _stream_problems(name, fields)]
    if problems:
        raise ConfigError([f"{path}: {problem}" for problem in problems])
    return {name: msgspec.convert(fields, WantedStream) for name, fields in streams.items()}


def _default(field: structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def _stream_problems(name: object, fields: object) -> list[str]:
    key = f"streams.{name}"
    if (problem := name_problem(name, STREAM_NAME)) is not None:
        return [f"{key}: a stream's name {problem}"]
    problems = list(struct_problems(key, fields, WantedStream))
    size = 0 if problems else len(to_json(msgspec.convert(fields, WantedStream)))
    if size > MAX_SETTINGS_BYTES:
        problems.append(f"{key}: its settings take {size} bytes; at most {MAX_SETTINGS_BYTES} are kept of a stream")
    if not problems and isinstance(fields, dict) and _has_credentials(str(fields["url"])):
        problems.append(
            f"{key}.url: holds a user or password, which everybody who reads the fleet's settings would see: name "
            "them with username_env and password_env, or username_file and password_file"
        )
    return problems


def _has_credentials(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:
        return False


def _yaml(path: Path) -> Any:
    from tracker.config.yaml import load_yaml

    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path}: cannot be read: {why_unreadable(error)}"]) from None
    except ValueError as error:
        raise ConfigError([f"{path}: {error}"]) from None
    return {} if data is None else data


def to_json(record: Struct) -> bytes:
    """Without what is as by default, so that settings read short and equal ones are equal."""
    defaults = {field.name: _default(field) for field in structs.fields(type(record))}
    fields = {name: value for name, value in structs.asdict(record).items() if value != defaults[name]}
    return msgspec.json.encode(fields, order="sorted")
