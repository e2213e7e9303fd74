"""The models that can be named: where their configs lie, and where their weights come from.

The official configs are used as the `sam2` package ships them, so that its own builder makes the same networks.
"""

import os
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import sam2

from tracker.engine.models.download import download
from tracker.errors import ModelError

BUNDLED = "nano"
_MODELS = Path(__file__).resolve().parents[2] / "models"
_OFFICIAL = Path(sam2.__file__).resolve().parent / "configs"
_URL = "https://dl.fbaipublicfiles.com/segment_anything_2"


@dataclass(frozen=True, slots=True)
class Weights:
    """Where an official checkpoint comes from, and what it must be."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What `trackerd models show` says. `image_size` is the model's own, in pixels."""

    name: str
    config: Path
    checkpoint: Path
    fetched: bool
    url: str | None  # None: comes with the package
    sha256: str | None
    image_size: int
    parameters: int


_SHA256 = {
    "sam2.1_hiera_tiny": "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69",
    "sam2.1_hiera_small": "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38",
    "sam2.1_hiera_base_plus": "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5",
    "sam2.1_hiera_large": "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318",
    "sam2_hiera_tiny": "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125",
    "sam2_hiera_small": "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3",
    "sam2_hiera_base_plus": "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071",
    "sam2_hiera_large": "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b",
}
_SHORT = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}  # as the official configs are called
_RELEASE = {"sam2.1": "092824", "sam2": "072824"}


def names() -> list[str]:
    """All models, the bundled one first."""
    return [BUNDLED, *_SHA256]


def config_path(name: str) -> Path:
    """The model's config, which `build_sam2_video_predictor("//" + path)` takes too. Raises ModelError."""
    if name not in names():
        close = get_close_matches(name, names(), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names())}"
        raise ModelError(f"model.name: there is no model {name!r}; {hint}")
    if name not in _SHA256:
        return _MODELS / f"{name}.yaml"
    family, _, size = name.partition("_hiera_")
    return _OFFICIAL / family / f"{family}_hiera_{_SHORT[size]}.yaml"


def weights(name: str) -> Weights | None:
    """Where the weights come from; None for a model whose weights are in the package."""
    config_path(name)
    if name not in _SHA256:
        return None
    return Weights(f"{_URL}/{_RELEASE[name.partition('_hiera_')[0]]}/{name}.pt", _SHA256[name])


def checkpoint_path(name: str) -> Path:
    """Where the model's weights lie, or would lie once fetched: `$TRACKER_MODELS`, else the user's cache folder."""
    if weights(name) is None:
        return _MODELS / f"{name}.safetensors"
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("TRACKER_MODELS") or cache_home / "tracker" / "models") / f"{name}.pt"


def takes_picture_edges(name: str) -> bool:
    """Whether masks get better by taking their edges from the picture: measured of the bundled model only."""
    return name == BUNDLED


def show(name: str) -> ModelInfo:
    """All there is to say of one model. Builds it once to count its parameters. Raises ModelError."""
    source, checkpoint = weights(name), checkpoint_path(name)
    image_size, parameters = _measured(name)
    return ModelInfo(
        name=name,
        config=config_path(name),
        checkpoint=checkpoint,
        fetched=checkpoint.is_file(),
        url=source.url if source else None,
        sha256=source.sha256 if source else None,
        image_size=image_size,
        parameters=parameters,
    )


@cache
def _measured(name: str) -> tuple[int, int]:
    from tracker.engine.models import build

    net = build.network(config_path(name))
    return net.image_size, sum(p.numel() for p in net.parameters())


def fetch(name: str, *, progress: bool = True) -> Path:
    """Download a model's weights unless they are there; the path to them. Raises ModelError."""
    source, target = weights(name), checkpoint_path(name)
    if source is not None and not target.is_file():
        download(source.url, source.sha256, target, progress=progress)
    return target
