"""The mask decoder of objects that are tracked without a prompt, for many at once: the same weights and sums as
the official `MaskDecoder` (`mask_decoder.py`) and `TwoWayTransformer` (`transformer.py`), in few large products.

- Its tokens are then the same for all objects, so that what happens to them before they see a picture is done once.
- Position encodings are added after the products instead of before them (a product is linear).
- All heads share one product: each head's queries (or keys) have zeros in the channels of the others.
- Nothing is shuffled while masks are enlarged (`enlarge.py`).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from tracker.engine.layers.enlarge import Enlarge
from tracker.engine.layers.linear import Linear, scaled
from tracker.errors import ModelError


class Decoded(NamedTuple):
    """Logits [b, h4, w4] of the mask with the best predicted IoU, that IoU and the object-score logit [b], and the
    mask's token [b, c]; float32."""

    logits_bhw: Tensor
    score_b: Tensor
    presence_b: Tensor
    token_bc: Tensor


class Decoder:
    """The official module's weights, laid out. `dtype` is that of products; sums and norms stay float32."""

    def __init__(self, net: SAM2Base, dtype: torch.dtype = torch.float32) -> None:
        decoder = net.sam_mask_decoder
        _check(net)
        sparse_tc, self._dense_tc = _no_prompt(net)
        own_tc = torch.cat((decoder.obj_score_token.weight, decoder.iou_token.weight, decoder.mask_tokens.weight))
        self._tokens_tc = torch.cat((own_tc, sparse_tc))
        where_tc = _rows(net.sam_prompt_encoder.get_dense_pe())[0]
        transformer = decoder.transformer
        self._layers = [Layer(layer, where_tc, self._tokens_tc, dtype) for layer in transformer.layers]
        self._last = FromPicture(transformer.final_attn_token_to_image, where_tc, dtype)
        self._last_norm = transformer.norm_final_attn
        self._enlarge = Enlarge(decoder, dtype)
        self._first_mask = 3  # after the tokens of the object score, the IoU and the single mask
        candidates = (mlp.layers for mlp in decoder.output_hypernetworks_mlps[1:])
        self._masks = [_side_by_side(layers) for layers in zip(*candidates, strict=True)]
        self._iou = decoder.iou_prediction_head
        self._presence = decoder.pred_obj_score_head
        self._own_token = decoder.use_multimask_token_for_obj_ptr

    def __call__(self, coarse_btc: Tensor, fine_nchw: Tensor, middle_nchw: Tensor, image_b: Tensor) -> Decoded:
        """Features of b objects that have looked at their memories, and of n pictures, each object's `image_b`."""
        queries_bqc, keys_btc = self._transformed(coarse_btc)
        object_token_bc = queries_bqc[:, 0]
        iou_token_bc = queries_bqc[:, 1]
        single_token_bc = queries_bqc[:, self._first_mask - 1]
        score_bm = self._iou(iou_token_bc)[:, 1:].float()
        candidates = score_bm.shape[1]
        masks_bmc = queries_bqc[:, self._first_mask : self._first_mask + candidates]

        best_b = score_bm.argmax(1)
        all_b = torch.arange(len(best_b), device=best_b.device)
        weights_bk = self._weights(masks_bmc)[best_b, all_b]
        logits_bhw = self._enlarge(keys_btc, fine_nchw, middle_nchw, image_b, weights_bk)
        presence_b = self._presence(object_token_bc)[:, 0].float()
        token_bc = masks_bmc[all_b, best_b] if self._own_token else single_token_bc
        return Decoded(logits_bhw, score_bm[all_b, best_b], presence_b, token_bc)

    def _transformed(self, coarse_btc: Tensor) -> tuple[Tensor, Tensor]:
        """`TwoWayTransformer`: the tokens [b, q, c] and the picture's positions [b, t, c] after all layers."""
        keys_btc = coarse_btc + self._dense_tc
        queries_bqc = self._tokens_tc.expand(len(keys_btc), -1, -1)
        for layer in self._layers:
            queries_bqc, keys_btc = layer(queries_bqc, keys_btc)
        projected = self._last.project(keys_btc)
        seen_bqc = self._last(queries_bqc + self._tokens_tc, projected)
        return self._last_norm(queries_bqc + seen_bqc), keys_btc

    def _weights(self, masks_bmc: Tensor) -> Tensor:
        """What makes each candidate's mask of the enlarged features, [m, b, k] (its hypernetwork)."""
        x_mbc = masks_bmc.transpose(0, 1)
        for i, (weight_mio, bias_m1o) in enumerate(self._masks):
            x_mbc = torch.baddbmm(bias_m1o, x_mbc.relu() if i else x_mbc, weight_mio)
        return x_mbc


class Layer:
    """`TwoWayAttentionBlock`."""

    def __init__(self, layer: Any, where_tc: Tensor, tokens_tc: Tensor, dtype: torch.dtype) -> None:
        self._official = layer
        self._tokens_tc = tokens_tc
        self._begun_1qc = self._among_tokens(tokens_tc[None]) if layer.skip_first_layer_pe else None
        self._from_picture = FromPicture(layer.cross_attn_token_to_image, where_tc, dtype)
        back = layer.cross_attn_image_to_token
        self._heads_hc = _heads(back)
        queries = _scaled_queries(back)
        self._queries = Linear.of(queries, dtype=dtype)
        self._queries_where_tk = F.linear(where_tc, queries.weight)
        self._mlp_in, self._mlp_out = map(Linear.of, layer.mlp.layers)
        self._k = Linear.of(back.k_proj)
        self._v = Linear.of(back.v_proj)
        self._out_weight_kc = back.out_proj.weight.T
        self._out_bias_c = back.out_proj.bias

    def __call__(self, queries_bqc: Tensor, keys_btc: Tensor) -> tuple[Tensor, Tensor]:
        layer = self._official
        begun = (
            self._among_tokens(queries_bqc) if self._begun_1qc is None else self._begun_1qc.expand_as(queries_bqc)
        )
        seen_bqc = self._from_picture(begun + self._tokens_tc, self._from_picture.project(keys_btc))
        queries_bqc = layer.norm2(begun + seen_bqc)
        queries_bqc = layer.norm3(queries_bqc + self._mlp_out(self._mlp_in(queries_bqc, "relu")))
        return queries_bqc, layer.norm4(keys_btc + self._to_picture(queries_bqc, keys_btc))

    def _among_tokens(self, queries_bqc: Tensor) -> Tensor:
        layer = self._official
        if layer.skip_first_layer_pe:
            out_bqc = layer.self_attn(q=queries_bqc, k=queries_bqc, v=queries_bqc)
        else:
            placed_bqc = queries_bqc + self._tokens_tc
            out_bqc = queries_bqc + layer.self_attn(q=placed_bqc, k=placed_bqc, v=queries_bqc)
        begun_bqc: Tensor = layer.norm1(out_bqc)
        return begun_bqc

    def _to_picture(self, queries_bqc: Tensor, keys_btc: Tensor) -> Tensor:
        """What each of the picture's positions takes from the tokens: [b, t, c]."""
        b, t, _ = keys_btc.shape
        heads = len(self._heads_hc)
        q_btk = self._queries(keys_btc.to(self._queries.weight_oi.dtype)).float()
        q_btk = q_btk + self._queries_where_tk
        k_bsk = _by_head(self._k(queries_bqc + self._tokens_tc), self._heads_hc)
        v_bsk = _by_head(self._v(queries_bqc), self._heads_hc)
        # Tokens before positions: a softmax over eight numbers in a row takes ten times as long.
        scores_bst = torch.bmm(k_bsk, q_btk.transpose(1, 2))
        weights_bhqt = scores_bst.reshape(b, heads, -1, t).softmax(2)
        weights_bst = weights_bhqt.flatten(1, 2)
        return torch.baddbmm(self._out_bias_c, weights_bst.transpose(1, 2), v_bsk @ self._out_weight_kc)


class FromPicture:
    """Attention of tokens to the picture."""

    def __init__(self, attention: Any, where_tc: Tensor, dtype: torch.dtype) -> None:
        self._heads_hc = _heads(attention)
        self._q = Linear.of(_scaled_queries(attention))
        self._kv = Linear.of(attention.k_proj, attention.v_proj, dtype=dtype)
        self._where_tk = F.linear(where_tc, attention.k_proj.weight)
        self._out = Linear.of(attention.out_proj)

    def project(self, keys_btc: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the picture's positions, [b, t, k] each."""
        k_btk, v_btk = self._kv(keys_btc.to(self._kv.weight_oi.dtype)).float().chunk(2, -1)
        return k_btk + self._where_tk, v_btk

    def __call__(self, queries_bqc: Tensor, projected: tuple[Tensor, Tensor]) -> Tensor:
        k_btk, v_btk = projected
        q_bsk = _by_head(self._q(queries_bqc), self._heads_hc)
        weights_bst = torch.bmm(q_bsk, k_btk.transpose(1, 2)).softmax(-1)
        out_bhqk = torch.bmm(weights_bst, v_btk).reshape(len(q_bsk), len(self._heads_hc), -1, q_bsk.shape[2])
        return self._out((out_bhqk * self._heads_hc[:, None]).sum(1))


def _no_prompt(net: SAM2Base) -> tuple[Tensor, Tensor]:
    """What upstream gives the decoder where nothing was clicked: tokens [p, c], and [t, c] for the positions."""
    point = torch.zeros(1, 1, 2, device=net.device)
    padding = -torch.ones(1, 1, dtype=torch.int32, device=net.device)
    sparse_1pc, dense_1chw = net.sam_prompt_encoder(points=(point, padding), boxes=None, masks=None)
    return sparse_1pc[0], _rows(dense_1chw)[0]


def _scaled_queries(attention: Any) -> nn.Linear:
    """The projection of queries with attention's scale in it."""
    scale = (attention.internal_dim // attention.num_heads) ** -0.5
    return scaled(attention.q_proj, torch.full_like(attention.q_proj.bias, scale))


def _check(net: SAM2Base) -> None:
    decoder = net.sam_mask_decoder
    if not (net._use_multimask(False, None) and decoder.use_high_res_features and decoder.pred_obj_scores):
        raise ModelError("mask decoder: the engine is made for candidates, fine features and an object score")


def _rows(x_nchw: Tensor) -> Tensor:
    return x_nchw.flatten(2).transpose(1, 2)


def _heads(attention: Any) -> Tensor:
    """Which channels are each head's: 0 or 1, [h, k]."""
    each = attention.internal_dim // attention.num_heads
    return torch.eye(attention.num_heads, device=attention.q_proj.weight.device).repeat_interleave(each, 1)


def _by_head(x_bqk: Tensor, heads_hk: Tensor) -> Tensor:
    """[b, q, k] -> [b, h * q, k], each head's own channels and zeros."""
    return (x_bqk[:, None] * heads_hk[:, None]).flatten(1, 2)


def _side_by_side(layers: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """Linear layers that stand side by side: weights [m, i, o] and biases [m, 1, o]."""
    weights = torch.stack([layer.weight.detach().T for layer in layers])
    return weights, torch.stack([layer.bias.detach() for layer in layers])[:, None]
