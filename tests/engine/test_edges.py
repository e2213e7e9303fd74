"""Shown masks end where the picture's colours change; what is remembered stays the model's own."""

import cv2
import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracker.cli.options import ModelOptions
from tracker.config import EngineConfig, ModelConfig
from tracker.engine import edges as edges_module
from tracker.engine.automatic import search
from tracker.engine.edges import FINER, Edges
from tracker.engine.engine import Engine
from tracker.engine.memory import ObjectMemory
from tracker.engine.models import build, zoo
from tracker.engine.segmenter import Segmenter
from tracker.images.types import Rgb
from tracker.masks.enlargement import bounds_of
from tracker.masks.geometry import mask_of
from tracker.masks.types import F32, Bool, ObjectMask
from tracker.protocol.prompt import Prompt
from tracker.protocol.requests import SearchOptions

SIDE = 96  # of the picture
CELLS = SIDE // 4  # of its mask
RED, GREEN, GREY = (1.5, -1.0, -1.0), (-1.0, 1.5, -1.0), (0.0, 0.0, 0.0)
WHITE, BLACK = (2.2, 2.4, 2.6), (-2.1, -2.0, -1.8)


def disc(x: float, y: float, radius: float) -> Bool:
    yy, xx = np.mgrid[:SIDE, :SIDE] + 0.5
    return np.hypot(xx - x, yy - y) < radius


def bar(left: int, right: int) -> Bool:
    inside_hw = np.zeros((SIDE, SIDE), np.bool_)
    inside_hw[10:86, left:right] = True
    return inside_hw


def picture(
    inside_hw: Bool, colour: tuple[float, ...], ground: tuple[float, ...], noise: float = 0.1
) -> torch.Tensor:
    """Normalised, [1, 3, s, s]."""
    colours = np.where(inside_hw[..., None], colour, ground)
    colours = colours + np.random.default_rng(0).normal(0, noise, colours.shape)
    return torch.from_numpy(colours.transpose(2, 0, 1)[None].astype(np.float32))


def logits(inside_hw: Bool) -> F32:
    """What a model that errs by a cell says of it: [h4, w4], moved by a cell to the right."""
    share_hw = inside_hw.reshape(CELLS, 4, CELLS, 4).mean((1, 3))
    return np.roll(12 * share_hw - 6, 1, axis=1).astype(np.float32)


def iou(a_hw: Bool, b_hw: Bool) -> float:
    return float((a_hw & b_hw).sum() / (a_hw | b_hw).sum())


def parts(mask_hw: Bool) -> int:
    return int(cv2.connectedComponents(mask_hw.astype(np.uint8))[0]) - 1


@pytest.mark.parametrize(
    ("inside_hw", "colour", "ground"),
    [
        pytest.param(disc(50, 44, 22), RED, GREEN, id="disc"),
        pytest.param(disc(50, 44, 22), GREY, RED, id="disc that is grey"),
        pytest.param(disc(50, 44, 22), WHITE, BLACK, id="black and white"),
        pytest.param(disc(40, 60, 9), GREEN, GREY, id="small disc"),
        pytest.param(bar(36, 60), RED, GREY, id="bar of six cells"),
        pytest.param(disc(4, 48, 30), RED, GREEN, id="cut off by the picture's border"),
    ],
)
def test_a_mask_that_is_a_cell_off_is_led_back_to_the_edge(
    inside_hw: Bool, colour: tuple[float, ...], ground: tuple[float, ...]
) -> None:
    said_hw = logits(inside_hw)
    before = iou(mask_of(said_hw, (SIDE, SIDE)), inside_hw)
    guided_hw = Edges(picture(inside_hw, colour, ground)).along(said_hw, 0)
    after = iou(mask_of(guided_hw, (SIDE, SIDE)), inside_hw)
    assert guided_hw.shape == (FINER * CELLS, FINER * CELLS)
    assert after > max(0.8, before + 0.05)


def test_where_the_picture_has_no_edge_the_mask_stays_where_it_is() -> None:
    inside_hw = disc(50, 44, 22)
    said_hw = logits(inside_hw)
    guided_hw = Edges(picture(inside_hw, GREY, GREY, noise=0)).along(said_hw, 0)
    assert iou(mask_of(guided_hw, (SIDE, SIDE)), mask_of(said_hw, (SIDE, SIDE))) > 0.97


def test_each_mask_is_led_by_its_own_picture() -> None:
    places = [disc(30, 48, 20), disc(64, 48, 20)]
    edges = Edges(torch.cat([picture(inside_hw, RED, GREEN) for inside_hw in places]))
    for i in (1, 0, 1):
        guided_hw = edges.along(logits(places[i]), i)
        assert iou(mask_of(guided_hw, (SIDE, SIDE)), places[i]) > 0.9


def test_a_mask_smaller_than_a_window_does_not_vanish() -> None:
    said_hw = logits(disc(50, 50, 2.5))
    guided_hw = Edges(picture(disc(50, 50, 40), GREY, GREEN)).along(said_hw, 0)
    assert 0 < mask_of(guided_hw, (SIDE, SIDE)).sum() <= mask_of(said_hw, (SIDE, SIDE)).sum()


@pytest.mark.parametrize(("sureness", "holes"), [pytest.param(1, 0, id="sure"), pytest.param(0.25, 1, id="unsure")])
def test_a_belt_is_no_hole_where_the_model_is_sure(sureness: float, holes: int) -> None:
    inside_hw, belt_hw = bar(36, 60), bar(40, 56)
    belt_hw[:44] = belt_hw[52:] = False
    colours = torch.where(torch.from_numpy(belt_hw), picture(belt_hw, GREEN, GREEN), picture(inside_hw, RED, GREEN))
    guided_hw = Edges(colours).along(sureness * np.roll(logits(inside_hw), -1, axis=1), 0)
    assert parts(~mask_of(guided_hw, (SIDE, SIDE))) == 1 + holes


def test_what_is_of_the_same_colour_nearby_is_no_part_of_it() -> None:
    inside_hw, twin_hw = disc(40, 44, 20), disc(67, 44, 3)
    guided_hw = Edges(picture(inside_hw | twin_hw, RED, GREEN)).along(logits(inside_hw), 0)
    assert parts(mask_of(guided_hw, (SIDE, SIDE))) == 1


@given(st.tuples(st.floats(0, SIDE), st.floats(0, SIDE), st.floats(4, 16)), st.integers(0, 2**32 - 1))
def test_looking_at_what_is_around_a_mask_alone_changes_nothing(
    place: tuple[float, float, float], seed: int
) -> None:
    noise_hwc = np.random.default_rng(seed).normal(0, 1, (SIDE, SIDE, 3)).astype(np.float32)
    pictures_nchw = torch.from_numpy(cv2.GaussianBlur(4 * noise_hwc, (0, 0), 3).transpose(2, 0, 1)[None].copy())
    said_hw = logits(disc(*place))
    partly_hw = Edges(pictures_nchw).along(said_hw, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edges_module, "REACH", CELLS)
        whole_hw = Edges(pictures_nchw).along(said_hw, 0)
    assert np.array_equal(partly_hw > 0, whole_hw > 0)
    assert np.allclose(partly_hw[whole_hw > 0], whole_hw[whole_hw > 0], atol=1e-4)


def test_of_two_masks_that_overlap_the_surer_one_wins() -> None:
    """Where both are all but certain, colours would decide."""
    small_hw, large_hw = disc(50, 44, 22), disc(50, 44, 34)
    edges = Edges(picture(small_hw, RED, GREEN, noise=0.3))
    sure_hw, unsure_hw = edges.along(2 * logits(small_hw), 0), edges.along(logits(large_hw), 0)
    core_hw = mask_of(edges.along(logits(disc(50, 44, 12)), 0), (2 * CELLS, 2 * CELLS))
    assert core_hw.sum() > 50
    assert (sure_hw[core_hw] > unsure_hw[core_hw]).mean() > 0.9


@given(hnp.arrays(np.float32, (8, 8), elements=st.floats(-1024, 1024, width=32)), st.integers(0, 2**32 - 1))
def test_whatever_the_model_says_comes_out_finite_and_goes_in_unchanged(said_hw: F32, seed: int) -> None:
    before_hw = said_hw.copy()
    pictures_nchw = torch.from_numpy(np.random.default_rng(seed).normal(0, 1, (1, 3, 32, 32)).astype(np.float32))
    guided_hw = Edges(pictures_nchw).along(said_hw, 0)
    assert np.isfinite(guided_hw).all()
    assert guided_hw.dtype == np.float32
    assert (guided_hw > 0).any() == (said_hw > 0).any()
    assert np.array_equal(said_hw, before_hw)


# ---------------------------------------------------------------------------------------------------- the engine


@pytest.mark.parametrize(
    ("edges", "name", "taken"),
    [
        ("auto", "nano", True),
        ("auto", "sam2.1_hiera_tiny", False),
        ("picture", "sam2.1_hiera_tiny", True),
        ("model", "nano", False),
    ],
)
def test_whose_masks_take_their_edges_from_the_picture(edges: str, name: str, taken: bool) -> None:
    network = build.network(zoo.config_path(name), 128)
    engine = Engine(build.Model(name, network), msgspec.convert({"edges": edges}, EngineConfig))
    assert (engine.encode_tensor(torch.zeros(1, 3, 128, 128)).pictures_nchw is not None) == taken


def test_what_is_remembered_is_the_models_own_to_the_bit() -> None:
    nano = build.load_model(ModelConfig("nano", device="cpu", image_size=128))
    plain, plain_masks = followed(Engine(nano, EngineConfig(edges="model")))
    guided, guided_masks = followed(Engine(nano, EngineConfig(edges="picture")))
    for a, b in zip(tensors(plain), tensors(guided), strict=True):
        assert torch.equal(a, b)
    for mask, guided_mask in zip(plain_masks, guided_masks, strict=True):
        assert (mask.score, mask.presence) == (guided_mask.score, guided_mask.presence)
        assert len(guided_mask.logits_hw) == FINER * len(mask.logits_hw)
        assert iou(mask_of(guided_mask.logits_hw, (120, 90)), mask_of(mask.logits_hw, (120, 90))) > 0.8


@pytest.mark.parametrize("edges", ["model", "picture"])
def test_what_is_remembered_of_a_picture_is_shown_as_it_was(edges: str) -> None:
    nano = build.load_model(ModelConfig("nano", device="cpu", image_size=128))
    engine = Engine(nano, msgspec.convert({"edges": edges}, EngineConfig))
    memory, masks = followed(engine)
    assert len(memory.past) == len(masks) == 4
    for entry, before, image in zip(memory.past, masks, scene(), strict=True):
        (again,) = engine.shown([entry], image)
        assert np.array_equal(again.logits_hw, before.logits_hw)
        assert (again.score, again.presence) == (before.score, before.presence)


@pytest.mark.parametrize("edges", ["model", "picture"])
def test_a_mask_that_a_prompt_gave_is_shown_as_it_is(edges: str) -> None:
    nano = build.load_model(ModelConfig("nano", device="cpu", image_size=128))
    engine = Engine(nano, msgspec.convert({"edges": edges}, EngineConfig))
    given_hw, seen_hw = disc(50, 44, 22), disc(56, 44, 22)
    image = Rgb(np.where(seen_hw[..., None], (200, 60, 60), (40, 120, 40)).astype(np.uint8))
    features = engine.encode([image])
    memory, mask = engine.prompt(ObjectMemory(), features, 0, 0, Prompt(mask_hw=given_hw), (SIDE, SIDE))
    ((_, met_again),) = engine.propagate([(memory, 0, 0)], features)
    (remembered,) = engine.shown(memory.past or memory.staged, image)
    for shown in (mask, met_again, remembered):
        assert iou(mask_of(shown.logits_hw, (SIDE, SIDE)), given_hw) > 0.95


def test_candidates_are_shown_so_and_corrected_as_the_model_has_them() -> None:
    nano = build.load_model(ModelConfig("nano", device="cpu", image_size=128))
    seen_hw = disc(50, 44, 22)
    image = Rgb(np.where(seen_hw[..., None], (200, 60, 60), (40, 120, 40)).astype(np.uint8))
    clicked = Prompt(points_xy=np.array([[50, 44]], np.float32), labels_n=np.ones(1, np.int32))
    away = Prompt(points_xy=np.array([[8, 80]], np.float32), labels_n=np.zeros(1, np.int32))
    said = []
    for edges, size in (("model", 1), ("picture", FINER)):
        segmenter = Segmenter(Engine(nano, msgspec.convert({"edges": edges}, EngineConfig)))
        (first,) = segmenter.candidates("picture", image, clicked)
        (second,) = segmenter.candidates("picture", image, away, ref=first.ref)
        assert len(first.logits_hw) == size * 128 // 4
        said.append((first.score, second.score))
    assert said[0] == said[1]


def test_what_is_found_in_a_picture_is_shown_so_and_judged_as_the_model_has_it() -> None:
    nano = build.load_model(ModelConfig("nano", device="cpu", image_size=128))
    seen_hw = disc(50, 44, 22)
    picture_hwc = np.where(seen_hw[..., None], (200, 60, 60), (40, 120, 40)).astype(np.uint8)
    options = SearchOptions(points_per_side=3, pred_iou_thresh=0, stability_score_thresh=0, box_nms_thresh=1)
    said, ious = [], []
    for edges in ("model", "picture"):
        *_, last = search(Engine(nano, msgspec.convert({"edges": edges}, EngineConfig)), picture_hwc, options)
        assert last is not None
        assert last.found is not None
        said.append([(one.score, one.stability, one.point_xy) for one in last.found])
        ious.append(max(iou(one.mask_hw, seen_hw) for one in last.found))
        for one in last.found:
            assert one.area == one.mask_hw.sum()
            assert bounds_of(one.mask_hw) == (*one.box_xyxy[:2], one.box_xyxy[2] + 1, one.box_xyxy[3] + 1)
    assert sorted(said[0]) == sorted(said[1])
    assert ious[1] > ious[0] > 0.7, ious


def test_the_command_line_chooses_as_the_configuration_does() -> None:
    options = ModelOptions("nano", None, 64, "cpu", 0, "model")
    assert options.load().config.edges == "model"


def followed(engine: Engine) -> tuple[ObjectMemory, list[ObjectMask]]:
    """A disc that moves to the right for four pictures: its memory, its masks."""
    pictures = scene()
    prompt = Prompt(box_xyxy=np.array([28, 23, 73, 68], np.float32))
    memory, mask = engine.prompt(ObjectMemory(), engine.encode(pictures[:1]), 0, 0, prompt, (120, 90))
    masks = [mask]
    for k in range(1, 4):
        ((memory, mask),) = engine.propagate([(memory, 0, k)], engine.encode(pictures[k : k + 1]))
        masks.append(mask)
    return memory, masks


def scene() -> list[Rgb]:
    pictures = [Rgb(np.full((90, 120, 3), (40, 120, 40), np.uint8)) for _ in range(4)]
    for k, image in enumerate(pictures):
        cv2.circle(image.rgb_hwc, (50 + 3 * k, 45), 22, (200, 60, 60), -1)
    return pictures


def tensors(memory: ObjectMemory) -> list[torch.Tensor]:
    kept = ((entry.memory_tm, entry.pointer_c, entry.logits_hw) for entry in memory.past)
    return [tensor for entry in kept for tensor in entry if tensor is not None]
