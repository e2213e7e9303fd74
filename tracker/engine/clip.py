"""CLIP: pictures and texts in, how likely each text is out. `transformers` is imported once a model is wanted."""

import difflib
import hashlib
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from tracker.config import LabelsConfig
from tracker.engine.models.build import pick_device
from tracker.errors import ModelError
from tracker.masks.types import F32, U8

# Short names for OpenAI's models, which `transformers` takes as they are published.
NAMES = {
    name: f"openai/{name}" for name in ("clip-vit-base-patch32", "clip-vit-base-patch16", "clip-vit-large-patch14")
}
CPU_INFO = Path("/proc/cpuinfo")
INSTALL = "labels need the package transformers: pip install transformers"
THREADS = 1  # of the CPU: there is no hurry, and tracking wants the others
TEXTS_PER_BATCH = 64
TEXT_LISTS = 64  # embeddings kept; one list for each stream is usual


class Clip:
    """`net` is a `CLIPModel`, `pictures` and `tokens` its image processor and tokenizer. Serves one thread.

    Pictures go through it in `dtype`, which halves their time where the processor has bfloat16.
    """

    def __init__(
        self, net: Any, pictures: Any, tokens: Any, template: str, dtype: torch.dtype = torch.float32
    ) -> None:
        self._net, self._pictures, self._tokens, self._template = net, pictures, tokens, template
        self.key = _key_of(net, pictures)  # what vectors can be compared
        net.vision_model.to(dtype)
        self._dtype = dtype
        self.side = int(net.config.vision_config.image_size)  # pixels of the square that it sees
        self._embedded = lru_cache(maxsize=TEXT_LISTS)(self._embed_texts)

    @classmethod
    def load(cls, config: LabelsConfig) -> Self:
        """The configured model on its device; fetched first if it is a hub id that was not used before.

        From then on the calling thread computes with few CPU threads. Raises ModelError, which says what to do.
        """
        assert config.model is not None
        source, device = source_of(config.model), device_of(config.device)
        _use_threads(THREADS)
        try:
            net, pictures, tokens = _loaded(source)
        except ModelError:
            raise
        except ImportError as error:
            raise ModelError(f"{INSTALL} ({error})") from error
        except Exception as error:  # OSError, ValueError, RuntimeError, SafetensorError, … by what is wrong with it
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"labels.model: {config.model} cannot be loaded: {reason}") from error
        return cls(net.to(device), pictures, tokens, config.template, picture_dtype(device))

    @torch.inference_mode()
    def likely(self, crops: Sequence[U8], texts: Sequence[tuple[str, ...]]) -> list[F32]:
        """How likely each text of `texts[i]` is for `crops[i]`, uint8 [side, side, 3]: float32 [len(texts[i])], of
        sum 1. All crops go through the model as one batch; texts only when they are new.

        Called `logits_per_image.softmax` in the examples of `CLIPModel.forward`.
        """
        pictures_nc = self._embed_pictures(crops)
        scale = self._net.logit_scale.exp()
        logits = [scale * self._embedded(t) @ picture_c for picture_c, t in zip(pictures_nc, texts, strict=True)]
        return [logits_t.softmax(0).cpu().numpy() for logits_t in logits]

    @torch.inference_mode()
    def picture_vectors(self, crops: Sequence[U8]) -> F32:
        """Of crops, uint8 [side, side, 3]: float32 [len(crops), c], of length 1."""
        vectors_nc: F32 = self._embed_pictures(crops).cpu().numpy()
        return vectors_nc

    @torch.inference_mode()
    def text_vectors(self, texts: Sequence[str]) -> F32:
        """Of texts as they are, without the template: float32 [len(texts), c], of length 1."""
        vectors_nc: F32 = self._embed_sentences(list(texts)).cpu().numpy()
        return vectors_nc

    def _embed_pictures(self, crops: Sequence[U8]) -> Tensor:
        pixels_nchw = self._pictures(images=list(crops), return_tensors="pt")["pixel_values"].to(self._net.device)
        pooled_nc = self._net.vision_model(pixels_nchw.to(self._dtype)).pooler_output
        return _unit(self._net.visual_projection(pooled_nc.float()))

    def _embed_texts(self, texts: tuple[str, ...]) -> Tensor:
        """[len(texts), c], of length 1."""
        sentences = [self._template.replace("{}", text) for text in texts]
        parts = [sentences[i : i + TEXTS_PER_BATCH] for i in range(0, len(sentences), TEXTS_PER_BATCH)]
        return torch.cat([self._embed_sentences(part) for part in parts])

    def _embed_sentences(self, sentences: list[str]) -> Tensor:
        tokens = self._tokens(
            sentences,
            padding=True,
            truncation=True,
            max_length=self._net.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._net.device)
        text_output = self._net.text_model(tokens["input_ids"], attention_mask=tokens["attention_mask"])
        return _unit(self._net.text_projection(text_output.pooler_output))


def source_of(model: str) -> str:
    """What `transformers` loads for `labels.model`: a hub id or a folder. Raises ModelError for what is neither."""
    path = Path(model).expanduser()
    if model in NAMES or path.is_dir():
        return NAMES.get(model, str(path))
    if path.is_file():
        raise ModelError(f"labels.model: {model} is a file; name the folder with it, its config and its tokenizer")
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", model):
        return model
    if "/" in model:
        raise ModelError(f"labels.model: there is no folder {model}")
    close = difflib.get_close_matches(model, NAMES, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(NAMES)}"
    raise ModelError(f"labels.model: {model!r} is no name of a model, no folder and no hub id (owner/name); {hint}")


def picture_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where a CPU multiplies it by itself; elsewhere it would take longer."""
    if device.type != "cpu":
        return torch.float32
    try:
        flags = CPU_INFO.read_text()
    except OSError:  # another system than Linux
        return torch.float32
    return torch.bfloat16 if re.search(r"\b(avx512_bf16|amx_bf16)\b", flags) else torch.float32


def device_of(name: str) -> torch.device:
    """`labels.device`, as for the tracking model. Raises ModelError."""
    try:
        return pick_device(name)
    except ModelError as error:
        raise ModelError(error.message.replace("model.device", "labels.device")) from None


def _loaded(source: str) -> tuple[Any, Any, Any]:
    from transformers import AutoConfig, AutoTokenizer, CLIPImageProcessor, CLIPModel
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    kind = AutoConfig.from_pretrained(source).model_type
    if kind != "clip":
        raise ModelError(f"labels.model: {source} is a model of type {kind!r}; labels need one of type 'clip'")
    net, loading = CLIPModel.from_pretrained(source, output_loading_info=True)
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(f"labels.model: {source} lacks {len(missing)} of CLIP's tensors, {missing[0]} for one")
    tokens = AutoTokenizer.from_pretrained(source)
    # A tokenizer without its files comes out almost empty, without a word.
    if len(tokens) != (wanted := net.config.text_config.vocab_size):
        raise ModelError(f"labels.model: {source} has a tokenizer of {len(tokens)} tokens for a model of {wanted}")
    return net.eval().float().requires_grad_(False), CLIPImageProcessor.from_pretrained(source), tokens


def _use_threads(count: int) -> None:
    """For this thread alone: `set_num_threads` sets the number of all threads to come as well, so one of those sets
    it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    other = threading.Thread(target=torch.set_num_threads, args=(before,))
    other.start()
    other.join()


def _key_of(net: Any, pictures: Any) -> str:
    """That of vectors of the same weights, from pictures prepared alike."""
    digest = hashlib.sha256(pictures.to_json_string().encode())
    for name, weights in sorted(net.state_dict().items()):
        digest.update(name.encode())
        digest.update(weights.cpu().contiguous().numpy())
    return digest.hexdigest()


def _unit(features_nc: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features_nc, dim=-1)
