"""The engine's arrangements of the network's parts give what the official modules give, on random weights."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helpers.sides import random_network
from tracker.engine.forward import encode_image
from tracker.engine.layers.image_encoder import Encoder
from tracker.engine.layers.linear import Conv, Linear, attend
from tracker.engine.layers.mask_decoder import Decoder
from tracker.engine.layers.memory_encoder import MemoryEncoder
from tracker.errors import ModelError

MODELS = [("nano", 128), ("sam2.1_hiera_tiny", 128)]
CLOSE = 3e-5  # of the standard deviation


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: m[0])
def net(request: pytest.FixtureRequest) -> Any:
    net = random_network(*request.param)
    for parameter in net.parameters():  # biases and scales too, which begin as 0 and 1
        parameter += 0.02 * torch.randn(parameter.shape)
    return net


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= CLOSE * float(theirs.std(correction=0).clamp_min(0.1))


def pictures(net: Any, count: int) -> tuple[Tensor, Tensor, Tensor]:
    side, c = net.sam_image_embedding_size, net.hidden_dim
    shapes = (c, side), (c // 8, 4 * side), (c // 4, 2 * side)
    coarse, fine, middle = (torch.randn(count, width, size, size) for width, size in shapes)
    return coarse, fine, middle


@pytest.mark.parametrize("image_b", [[0], [0, 1, 1]], ids=str)
def test_the_decoder_gives_the_official_ones_best_mask(net: Any, image_b: list[int]) -> None:
    _, fine, middle = pictures(net, 2)
    count, side = len(image_b), net.sam_image_embedding_size
    coarse = torch.randn(count, net.hidden_dim, side, side)
    no_points = torch.zeros(count, 1, 2), -torch.ones(count, 1, dtype=torch.int32)
    with torch.inference_mode():
        sparse, dense = net.sam_prompt_encoder(points=no_points, boxes=None, masks=None)
        logits, scores, tokens, presence = net.sam_mask_decoder(
            image_embeddings=coarse,
            image_pe=net.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=False,
            high_res_features=[fine[image_b], middle[image_b]],
        )
        ours = Decoder(net)(coarse.flatten(2).transpose(1, 2), fine, middle, torch.tensor(image_b))
    best = torch.arange(count), scores.argmax(1)
    assert_close(ours.logits_bhw, logits[best])
    assert_close(ours.score_b, scores[best])
    assert_close(ours.presence_b, presence[:, 0])
    assert_close(ours.token_bc, tokens[best])


def test_the_encoder_gives_the_official_ones_features(net: Any) -> None:
    images = torch.randn(2, 3, net.image_size, net.image_size)
    with torch.inference_mode():
        ours, theirs = Encoder(net, torch.float32)(images), encode_image(net, images)
    for level in ("fine_nchw", "middle_nchw", "coarse_nchw", "position_1chw"):
        assert_close(getattr(ours, level), getattr(theirs, level))


def test_a_neck_that_mixes_its_finest_levels_is_refused(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net.image_encoder.neck, "fpn_top_down_levels", [1, 2, 3])
    with pytest.raises(ModelError, match="finest levels"):
        Encoder(net, torch.float32)


def test_a_decoder_without_candidates_is_refused(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "multimask_output_for_tracking", False)
    with pytest.raises(ModelError, match="candidates"):
        Decoder(net)


def test_the_memory_encoder_gives_the_official_ones_memories(net: Any) -> None:
    coarse, _, _ = pictures(net, 2)
    image_b = torch.tensor([1, 0, 1])
    mask_b1hw = 20 * torch.rand(3, 1, net.image_size, net.image_size) - 10
    encoder = net.memory_encoder
    with torch.inference_mode():
        theirs = encoder(coarse[image_b], mask_b1hw, skip_mask_sigmoid=True)["vision_features"]
        ours = MemoryEncoder(encoder, torch.float32)(coarse, image_b, mask_b1hw)
    assert_close(ours.permute(0, 3, 1, 2), theirs)


def test_a_fuser_with_a_projection_is_refused(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net.memory_encoder.fuser, "proj", nn.Conv2d(8, 8, 1))
    with pytest.raises(ModelError, match="projection"):
        MemoryEncoder(net.memory_encoder, torch.float32)


@pytest.mark.parametrize("rows", [1, 400], ids=["few rows", "many rows"])
@pytest.mark.parametrize("activation", ["none", "relu", "gelu"])
def test_a_linear_layer_of_any_size(rows: int, activation: str) -> None:
    layer, x = nn.Linear(48, 64), torch.randn(2, rows, 48)
    expected = {"none": lambda y: y, "relu": F.relu, "gelu": F.gelu}[activation](layer(x))
    with torch.inference_mode():
        assert_close(Linear.of(layer)(x, activation), expected.detach())


@pytest.mark.parametrize(
    "kwargs", [{"stride": 2, "padding": 1}, {"groups": 8, "padding": 1}, {"bias": False}], ids=str
)
def test_a_convolution(kwargs: dict[str, Any]) -> None:
    conv, x = nn.Conv2d(8, 16, 3, **kwargs), torch.randn(2, 8, 12, 12)
    with torch.inference_mode():
        assert_close(Conv(conv)(x), conv(x))


@pytest.mark.parametrize("block_bytes", [64, 1 << 20], ids=["in blocks", "at once"])
def test_attention_to_values_of_another_width(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of one tensor, too: what they give is the same."""
    monkeypatch.setattr("tracker.engine.layers.linear.SCORE_BYTES", block_bytes)
    rows = torch.randn(3, 40, 24)
    q, k, v = torch.randn(3, 20, 16), rows[..., :16], rows[..., 16:]
    with torch.inference_mode():
        assert_close(attend(q, k, v), (q @ k.transpose(1, 2)).softmax(-1) @ v)
