"""A tiny CLIP with random weights, made on the spot and saved as `save_pretrained` leaves it."""

from pathlib import Path

import numpy as np
import torch

SIDE = 32  # pixels of the square that it sees
TEXTS = ("cat", "dog", "forklift", "a person on a bicycle", "box")


def noise(seed: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def save_tiny_clip(path: Path, seed: int = 0) -> None:
    """A few thousand weights; the same ones for the same seed."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer
    from transformers.utils import logging as progress

    progress.disable_progress_bar()
    torch.manual_seed(seed)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokens = CLIPTokenizer(vocab={word: i for i, word in enumerate(words)}, merges=[], model_max_length=40)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**sizes, "vocab_size": len(words), "max_position_embeddings": 40}
    text |= {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    picture = {**sizes, "image_size": SIDE, "patch_size": 8}
    settings = CLIPConfig(text_config=text, vision_config=picture, projection_dim=8, initializer_factor=5.0)
    CLIPModel(settings).save_pretrained(path)
    tokens.save_pretrained(path)
    CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}).save_pretrained(
        path
    )
