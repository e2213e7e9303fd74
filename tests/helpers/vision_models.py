"""A tiny vision-language model with random weights, and a real server of OpenAI's protocol that has it."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from helpers.tracking import wait_until

SIDE = 32
PATCH = 8
START_S = 240.0

TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %} {% endfor %}"
)


def save_tiny_vision_model(path: Path) -> None:
    """A LLaVA of some ten thousand weights: it sees pictures of 32 pixels and says letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from tokenizers.decoders import Fuse
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.utils import logging as progress

    progress.disable_progress_bar()
    torch.manual_seed(0)
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *map(chr, range(32, 127))]
    letters = Tokenizer(models.WordLevel({word: k for k, word in enumerate(words)}, unk_token="<unk>"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    letters.decoder = Fuse()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=letters, additional_special_tokens=["<image>"], model_max_length=4096, **special
    )
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    text = LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, **small, **ends)
    sight = CLIPVisionConfig(image_size=SIDE, patch_size=PATCH, **small)
    settings = LlavaConfig(vision_config=sight, text_config=text, image_token_index=4, vision_feature_layer=-1)
    net = LlavaForConditionalGeneration(settings)
    net.generation_config.suppress_tokens = [*range(6)]  # it says letters: nothing special, no spaces
    net.save_pretrained(path)
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    LlavaProcessor(
        pictures,
        tokens,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(path)


@contextmanager
def vision_server(folder: Path) -> Iterator[str]:
    """Serves the model in a folder on this machine; yields the URL of its API. It fetches nothing."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder), "--device", "cpu"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, env=env) as process,
    ):
        try:
            wait_until(lambda: answers(port, process), timeout_s=START_S)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def answers(port: int, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the server ended"
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
