"""The sections of a configuration: what each key is, its bounds and its default."""

import os
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

STREAM_NAME = r"^[a-z0-9][a-z0-9_.-]{0,63}\Z"  # not $: that lets a final newline through

# Control characters, line separators and marks of writing direction, for a pattern: terminals, logs and pages would
# obey them.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb"
PLAIN_TEXT = rf"^[^{CONTROL_CHARACTERS}]*\Z"

MOST = 1e9  # of any number: what it is reckoned into, such as nanoseconds and bytes, stays a number too
Positive = Annotated[float, Meta(gt=0, le=MOST)]
NonNegative = Annotated[float, Meta(ge=0, le=MOST)]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Unit = Annotated[float, Meta(ge=0, le=1)]
PointsPerSide = Annotated[int, Meta(ge=1, le=64)]

PRED_IOU_THRESH = 0.8  # of masks that are looked for everywhere, as upstream
STABILITY_SCORE_THRESH = 0.95


class Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    pass


class ModelConfig(Section, frozen=True):
    name: str = "nano"
    checkpoint: str | None = None  # a local file instead of the registry's
    device: str = "auto"  # auto (CUDA, else CPU), cpu, cuda, cuda:1
    image_size: Annotated[int, Meta(ge=64, le=2048, multiple_of=32)] | None = None  # None: the model's own


EdgesFrom = Literal["auto", "picture", "model"]


class EngineConfig(Section, frozen=True):
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    mode: Literal["exact", "fast"] = "exact"
    history_frames: Annotated[int, Meta(ge=1, le=1024)] = 32
    conditioning_frames: Literal[4, 8, 16] = 4  # prompted frames that an object keeps looking at
    fill_hole_area: Annotated[int, Meta(ge=0, le=2**20)] = 8  # pixels of the low-resolution mask; 0: off
    edges: EdgesFrom = "auto"  # where a shown mask ends: auto is the picture's for nano
    catch_up_fraction: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    max_objects: Count = 64
    threads: Count | None = None  # CPU threads of the model; None: torch's own choice


class ControlConfig(Section, frozen=True):
    endpoint: str = "tcp://127.0.0.1:5570"
    allow_credentials: bool = False  # whether streams.add may name variables and systemd credentials
    allow_sources: list[str] = []  # patterns of URLs that streams.add may open; nothing by default


class PublishConfig(Section, frozen=True):
    endpoint: str = "tcp://127.0.0.1:5571"
    outline_tolerance_px: NonNegative = 1.0
    masks: Literal["none", "rle"] = "none"
    send_hwm: Count = 64  # messages kept for one slow subscriber
    jpeg_quality: Annotated[int, Meta(ge=1, le=100)] = 85


class BufferConfig(Section, frozen=True):
    seconds: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    mib: Annotated[float, Meta(gt=0, le=2**20)] = 512.0


class DiscoverConfig(Section, frozen=True):
    """Look for everything in a frame now and then, in spare time, and follow what is new and lasts."""

    every_s: Positive = 30.0
    lasts_s: NonNegative = 1.0  # what is not seen again after so long is not followed
    min_area: Annotated[int, Meta(ge=1)] = 400  # pixels of the source frame
    max_objects: Count = 16  # on the stream, those that were prompted included
    points_per_side: PointsPerSide = 16
    pred_iou_thresh: Unit = PRED_IOU_THRESH
    stability_score_thresh: Unit = STABILITY_SCORE_THRESH
    expire_s: Positive | None = 10.0  # a found object is removed after being lost for so long


Texts = Annotated[
    list[Annotated[str, Meta(min_length=1, max_length=256, pattern=PLAIN_TEXT)]], Meta(max_length=1000)
]


class LabelsConfig(Section, frozen=True):
    """What objects may be, guessed by CLIP from texts."""

    model: Annotated[str, Meta(min_length=1)] | None = None  # a name, a hub id or a folder; None: off
    device: str = "auto"
    every_s: Positive = 30.0  # how often an object is looked at again
    min_confidence: Unit = 0.5  # below, the guess has no label
    template: str = "a photo of a {}"  # what CLIP reads, with a text in place of {}
    texts: Texts = []


MAX_ZONES = 32  # of a stream
Coordinate = Annotated[float, Meta(ge=-65535, le=65535)]
Vertex = tuple[Coordinate, Coordinate]  # x, y


class ZoneConfig(Section, frozen=True):
    """A polygon whose visitors are counted, or a line, from its first point to its second, whose crossings are."""

    polygon: Annotated[list[Vertex], Meta(min_length=3, max_length=64)] | None = None
    line: tuple[Vertex, Vertex] | None = None
    unit: Literal["pixels", "fraction"] = "pixels"  # of the source frame, or of its width and height
    labels: Annotated[Texts, Meta(min_length=1)] | None = None  # who counts, by label or guess; None: everything
    min_area: Annotated[int, Meta(ge=0)] = 0  # pixels; while it is smaller, an object is not looked at
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5  # of an object inside, from which on it is in the polygon
    at: Literal["mask", "foot"] = "mask"  # of what: of its mask, or of the point where it stands
    loiter_s: Positive | None = None  # inside for so long: `loitering`

    def __post_init__(self) -> None:
        if (self.polygon is None) == (self.line is None):
            raise ValueError("give either polygon or line")
        if self.line is not None and self.loiter_s is not None:
            raise ValueError("loiter_s: nobody stays in a line; give a polygon")
        if self.line is not None and self.line[0] == self.line[1]:
            raise ValueError("line: its two points are the same")
        if self.unit == "fraction" and not all(0 <= value <= 1 for xy in self.vertices for value in xy):
            raise ValueError("fractions of the picture's width and height lie between 0 and 1")

    @property
    def vertices(self) -> list[Vertex]:
        return list(self.line if self.line is not None else self.polygon or [])


ZoneName = Annotated[str, Meta(pattern=STREAM_NAME)]
Zones = Annotated[dict[ZoneName, ZoneConfig], Meta(max_length=MAX_ZONES)]


class StreamConfig(Section, frozen=True):
    """One source. What `streams.add` takes is the same record."""

    url: Annotated[str, Meta(min_length=1)]
    format: str | None = None  # an FFmpeg input format, where the URL does not tell
    options: dict[str, str] = {}  # FFmpeg options, on top of ours
    transport: Literal["tcp", "udp"] = "tcp"
    pace: Literal["real", "all"] = "real"  # all: every frame of a file, as fast as the model goes
    loop: bool = False
    fps: Positive | None = None  # cap
    size: tuple[Count, Count] | None = None  # decode size [w, h]; None: the source's own
    hwaccel: Literal["auto", "cuda", "vaapi", "none"] = "none"
    buffer: BufferConfig = BufferConfig()
    priority: Annotated[int, Meta(ge=0, le=100)] = 0
    discover: DiscoverConfig | None = None
    labels: Texts | None = None  # instead of labels.texts; empty: no guesses on this stream
    zones: Zones = {}
    min_fps: NonNegative = 0.0  # admission refuses objects that would push the stream below
    username_env: str | None = None
    password_env: str | None = None
    username_file: str | None = None
    password_file: str | None = None


class LooksConfig(Section, frozen=True):
    """What objects looked like, to be found again."""

    every_s: Positive = 2.0  # between two looks at an object that is well visible
    days: Positive = 30.0  # they are kept for so long,
    most: Annotated[int, Meta(ge=1000, le=1_000_000)] = 200_000  # and at most so many
    alike: Unit = 0.9  # from this score on a lost object may be the one that was added


Prompt = Annotated[str, Meta(min_length=1, max_length=2000)]


class DescribeConfig(Section, frozen=True):
    """What objects are in words, by a server that speaks OpenAI's protocol: vLLM, Ollama, llama.cpp or a cloud."""

    url: Annotated[str, Meta(pattern=r"^https?://\S+\Z")] | None = (
        None  # such as http://127.0.0.1:8000/v1; None: off
    )
    model: str | None = None
    api_key_env: str | None = None  # a variable that holds the key
    api_key_file: str | None = None
    prompt: Prompt = "What is the object in these pictures? One sentence."
    per_label: dict[str, Prompt] = {}  # instead of the prompt, for objects of that label
    when: list[Literal["stable", "lost", "asked"]] = field(default_factory=lambda: ["asked"])
    max_images: Annotated[int, Meta(ge=1, le=16)] = 4
    in_flight: Annotated[int, Meta(ge=1, le=8)] = 1
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 60.0
    max_tokens: Annotated[int, Meta(ge=1, le=4096)] = 200
    per_hour: Count = 60  # questions


class WebConfig(Section, frozen=True):
    """The live page. It answers on this machine alone, unless there is a token or a proxy that knows its users."""

    endpoint: str | None = None  # such as 127.0.0.1:5580; None: no page
    hosts: list[str] = []  # further names that browsers may call it by
    token_file: str | None = None  # holds a secret of at least 16 characters
    trusted_proxies: list[str] = []  # addresses or networks whose headers are believed
    user_header: str | None = None  # in which such a proxy names its user


class PersistConfig(Section, frozen=True):
    """What outlives a restart."""

    dir: Annotated[str, Meta(min_length=1)] | None = None  # None: $STATE_DIRECTORY, which systemd sets
    interval_s: Positive = 2.0  # between two saves of an object's memory
    history_days: Positive = 30.0
    history_mib: Positive = 256.0

    @property
    def folder(self) -> Path | None:
        """For the state: `dir`, else the folder that systemd gives the service."""
        if self.dir is not None:
            return Path(self.dir).expanduser()
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        return Path(given) if given else None


class LimitsConfig(Section, frozen=True):
    """Bounds on what peers and sources can cost."""

    connections: Annotated[int, Meta(ge=1, le=65536)] = 256  # of each socket
    streams: Annotated[int, Meta(ge=1, le=4096)] = 64  # all together, where a client adds one
    subscriptions: Count = 4096  # of all subscribers together
    replies_mib: Positive = 64.0  # that wait for clients which do not read, all together
    memory_mib: Annotated[int, Meta(ge=64, le=2**30)] | None = (
        None  # resident; None: three quarters of the machine's
    )


class KeysConfig(Section, frozen=True):
    dir: str | None = None  # a folder of CURVE keys (`trackerd keys`); None: no keys, for this machine only


class MetricsConfig(Section, frozen=True):
    endpoint: Annotated[str, Meta(pattern=r"^(\[[^\[\]/]+\]|[^:/]*):[0-9]{1,5}\Z")] | None = (
        None  # host:port; None: off
    )


class LogConfig(Section, frozen=True):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section, frozen=True):
    model: ModelConfig = ModelConfig()
    engine: EngineConfig = EngineConfig()
    control: ControlConfig = ControlConfig()
    publish: PublishConfig = PublishConfig()
    labels: LabelsConfig = LabelsConfig()
    looks: LooksConfig = LooksConfig()
    describe: DescribeConfig = DescribeConfig()
    limits: LimitsConfig = LimitsConfig()
    keys: KeysConfig = KeysConfig()
    streams: dict[str, StreamConfig] = {}
    web: WebConfig = WebConfig()
    persist: PersistConfig = PersistConfig()
    metrics: MetricsConfig = MetricsConfig()
    log: LogConfig = LogConfig()
