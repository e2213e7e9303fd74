"""Build a model from its config and load its weights: the official classes, without the official predictor."""

from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from tracker.config import ModelConfig
from tracker.engine import memory
from tracker.engine.models import zoo
from tracker.engine.models.download import sha256_of
from tracker.errors import ModelError

# What the official builder adds for video (`build_sam2_video_predictor`, `apply_postprocessing=True`).
POSTPROCESSING = {
    "model.sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "model.sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "model.binarize_mask_from_pts_for_mem_enc": True,
}

# What the engine's memory relies on; all official configs agree.
_EXPECTED = {
    "num_maskmem": memory.MEMORIES + 1,
    "max_obj_ptrs_in_encoder": memory.POINTERS + 1,
    "max_cond_frames_in_attn": -1,
    "memory_temporal_stride_for_eval": 1,
    "backbone_stride": 16,
    "use_obj_ptrs_in_encoder": True,
    "only_obj_ptrs_in_the_past_for_eval": True,
    "directly_add_no_mem_embed": True,
    "use_high_res_features_in_sam": True,
    "use_mask_input_as_output_without_sam": True,
    "non_overlap_masks_for_mem_enc": False,
    "pred_obj_scores": True,
    "fixed_no_obj_ptr": True,
    "soft_no_obj_ptr": False,
}


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A network in evaluation mode on its device. `sha256` is that of the weights; None: none were loaded."""

    name: str
    net: SAM2Base
    sha256: str | None = None

    @property
    def image_size(self) -> int:
        """Side of the square that pictures are resized to."""
        return int(self.net.image_size)

    @property
    def device(self) -> torch.device:
        device: torch.device = self.net.device
        return device


def load_model(config: ModelConfig) -> Model:
    """The named model with its weights on its device. Raises ModelError, which says what to do."""
    device, path = check_model(config)
    net = network(zoo.config_path(config.name), config.image_size)
    load_weights(net, path, config.name)
    return Model(config.name, net.to(device), sha256_of(path))


def check_model(config: ModelConfig) -> tuple[torch.device, Path]:
    """Where the model would run and its weights lie; loads none. Raises ModelError, which says what to do."""
    device = pick_device(config.device)
    path = Path(config.checkpoint) if config.checkpoint else zoo.checkpoint_path(config.name)
    zoo.config_path(config.name)
    if not path.is_file():
        raise ModelError(_missing(config, path))
    return device, path


def _missing(config: ModelConfig, path: Path) -> str:
    if config.checkpoint:
        return f"model.checkpoint: there is no file {path}"
    weights = f"model.name: the weights of {config.name}"
    if zoo.weights(config.name) is None:
        return f"{weights} are missing from the installation ({path}): install again"
    return f"{weights} are not here yet ({path}): run `trackerd models fetch {config.name}`"


def network(config: Path, image_size: int | None = None) -> SAM2Base:
    """The network of a config file, in evaluation mode on the CPU, its weights as they are initialised.

    `image_size` in pixels overrides the config's; a multiple of 32. Raises ModelError.
    """
    if image_size is not None and image_size % 32:
        raise ModelError(f"model.image_size: {image_size} is not a multiple of 32")
    settings = OmegaConf.load(config)
    for key, value in POSTPROCESSING.items():
        OmegaConf.update(settings, key, value, force_add=True)
    if image_size is not None:
        settings.model.image_size = image_size
    net = instantiate(settings.model, _recursive_=True).eval().requires_grad_(False)
    for name, expected in _EXPECTED.items():
        if (found := getattr(net, name)) != expected:
            raise ModelError(f"{config}: {name} is {found}, but this engine is made for {expected}")
    return net


def load_weights(net: SAM2Base, path: Path, name: str) -> None:
    """Load a checkpoint (.safetensors, or .pt as Meta publishes it). Raises ModelError if it is another model's."""
    found, wanted = _read(path), net.state_dict()
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    other_shape = [key for key in wanted.keys() & found.keys() if wanted[key].shape != found[key].shape]
    if missing or unexpected or other_shape:
        raise ModelError(
            f"{path} does not fit {name}: {len(missing)} tensors are missing, {len(unexpected)} unknown, "
            f"{len(other_shape)} of another shape; name the model that it was made for in model.name, or the "
            f"checkpoint that was made for {name} in model.checkpoint"
        )
    net.load_state_dict(found)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors: dict[str, Tensor] = weights["model"]
        return tensors
    except (OSError, RuntimeError, UnpicklingError, SafetensorError, EOFError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} is no checkpoint: {reason}; it must be .safetensors, or a .pt file with the weights "
            f"under 'model', as Meta publishes them"
        ) from error


def pick_device(text: str) -> torch.device:
    """`auto` (CUDA, else CPU) or a name. Raises ModelError for a device that is not here."""
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError:
        raise ModelError(f"model.device: {text!r} is no device; say auto, cpu, cuda or cuda:1") from None
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        here = f"only {count} CUDA devices are" if count else "no CUDA device is"
        raise ModelError(
            f"model.device: {text!r}, but {here} usable here; say device: cpu (or auto), or check nvidia-smi and "
            f"that torch {torch.__version__} was built for the driver"
        )
    if device.type not in ("cpu", "cuda"):
        raise ModelError(f"model.device: {text!r} is not supported; say auto, cpu, cuda or cuda:1")
    return device
