"""Known colours through every matrix and range, odd sizes, and the reference resize."""

import itertools

import av
import numpy as np
import pytest
from PIL import Image as Pil

from tracker.images import imaging
from tracker.images.types import I420, Colour, Rgb

COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (119, 119, 119),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "skin": (210, 160, 130),
    "teal": (20, 110, 120),
}
LUMA = {"bt601": (0.299, 0.587, 0.114), "bt709": (0.2126, 0.7152, 0.0722), "bt2020": (0.2627, 0.678, 0.0593)}


def yuv_of(rgb: tuple[int, int, int], matrix: str, full_range: bool) -> tuple[int, int, int]:
    """The standards' own definition of Y', Cb and Cr, written the other way round than in the code."""
    r, g, b = (value / 255 for value in rgb)
    kr, kg, kb = LUMA[matrix]
    y = kr * r + kg * g + kb * b
    pb, pr = (b - y) / (2 * (1 - kb)), (r - y) / (2 * (1 - kr))
    if full_range:
        return round(255 * y), min(255, round(128 + 255 * pb)), min(255, round(128 + 255 * pr))
    return round(16 + 219 * y), round(128 + 224 * pb), round(128 + 224 * pr)


def flat(yuv: tuple[int, int, int], size_wh: tuple[int, int], colour: Colour) -> I420:
    w, h = size_wh
    half = ((h + 1) // 2, (w + 1) // 2)
    y, u, v = yuv
    return I420(np.full((h, w), y, np.uint8), np.full(half, u, np.uint8), np.full(half, v, np.uint8), colour)


@pytest.mark.parametrize(("matrix", "full_range"), list(itertools.product(LUMA, [False, True])))
@pytest.mark.parametrize("name", COLOURS)
def test_known_colours(name, matrix, full_range):
    image = flat(yuv_of(COLOURS[name], matrix, full_range), (6, 4), Colour(matrix, full_range))
    rgb_hwc = imaging.to_rgb(image)
    assert rgb_hwc.dtype == np.uint8
    assert rgb_hwc.shape == (4, 6, 3)
    assert np.abs(rgb_hwc.astype(int) - COLOURS[name]).max() <= 2  # what rounding Y, U and V costs


def test_a_wrong_matrix_or_range_would_show():
    yuv = yuv_of(COLOURS["green"], "bt709", False)
    right = imaging.to_rgb(flat(yuv, (2, 2), Colour("bt709", False))).astype(int)
    for wrong in (Colour("bt601", False), Colour("bt709", True)):
        assert np.abs(imaging.to_rgb(flat(yuv, (2, 2), wrong)) - right).max() > 10


@pytest.mark.parametrize("size_wh", [(1, 1), (1, 2), (3, 1), (5, 3), (6, 3), (5, 4)])
def test_odd_sizes_keep_their_last_row_and_column(size_wh):
    w, h = size_wh
    image = flat((81, 90, 240), size_wh, Colour())
    image.y_hw[-1, -1] = 235
    rgb_hwc = imaging.to_rgb(image)
    assert rgb_hwc.shape == (h, w, 3)
    assert rgb_hwc[-1, -1, 1] > rgb_hwc[0, 0, 1] or size_wh == (1, 1)


@pytest.mark.parametrize("size_wh", [(7, 127), (8, 128), (9, 129), (10, 257), (3, 300)])
def test_tall_pictures_have_no_seams(size_wh):
    rng = np.random.default_rng(2)
    image = flat((0, 0, 0), size_wh, Colour("bt709", True))
    for plane in (image.y_hw, image.u_hw, image.v_hw):
        plane[:] = rng.integers(0, 256, plane.shape)
    rgb_hwc = imaging.to_rgb(image)
    for top in range(0, size_wh[1], 2):
        half = slice(top // 2, top // 2 + 1)
        pair = I420(image.y_hw[top : top + 2], image.u_hw[half], image.v_hw[half], image.colour)
        assert np.array_equal(rgb_hwc[top : top + 2], imaging.to_rgb(pair))


def test_each_chroma_sample_colours_its_own_four_pixels():
    image = flat((128, 128, 128), (4, 4), Colour())
    image.v_hw[0, 1] = 240
    red_hw = imaging.to_rgb(image)[..., 0]
    assert (red_hw[:2, 2:] > 200).all()
    red_hw[:2, 2:] = red_hw[3, 0]
    assert (red_hw == red_hw[0, 0]).all()


def test_every_yuv_value_is_within_one_level_of_the_exact_map():
    rng = np.random.default_rng(5)
    for colour in (Colour("bt709", False), Colour("bt601", True)):
        planes = rng.integers(0, 256, (3, 64, 64), np.uint8)
        image = I420(planes[0].repeat(2, 0).repeat(2, 1), planes[1], planes[2], colour)
        exact = planes.reshape(3, -1).T @ imaging.yuv_to_rgb_34(colour)[:, :3].T.astype(np.float64)
        exact = np.clip(np.rint(exact + imaging.yuv_to_rgb_34(colour)[:, 3]), 0, 255).reshape(64, 64, 3)
        assert np.abs(imaging.to_rgb(image)[::2, ::2] - exact).max() <= 1


@pytest.mark.parametrize(("matrix", "tag"), [("bt601", "smpte170m"), ("bt709", "itu709"), ("bt2020", "bt2020")])
@pytest.mark.parametrize("full_range", [False, True])
def test_equal_to_swscale_within_three_levels(matrix, tag, full_range):
    ramp = np.linspace(0, 1, 64)[None] * np.ones((64, 1))
    y, u, v = 40 + 170 * ramp, 70 + 100 * ramp.T, 190 - 90 * ramp
    planes = [np.rint(y), np.rint(u)[::2, ::2], np.rint(v)[::2, ::2]]
    image = I420(*(plane.astype(np.uint8) for plane in planes), Colour(matrix, full_range))
    frame = av.VideoFrame.from_ndarray(
        np.concatenate([p.reshape(-1) for p in (image.y_hw, image.u_hw, image.v_hw)]).reshape(96, 64),
        format="yuv420p",
    )
    reference = frame.reformat(
        format="rgb24",
        src_colorspace=tag,
        src_color_range="JPEG" if full_range else "MPEG",
        dst_color_range="JPEG",
        interpolation="POINT",
    ).to_ndarray()
    assert np.abs(imaging.to_rgb(image).astype(int) - reference).max() <= 3


def test_still_pictures_keep_their_pixels():
    rgb_hwc = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert imaging.to_rgb(Rgb(rgb_hwc)) is rgb_hwc


@pytest.mark.parametrize("size_wh", [(32, 32), (200, 150), (101, 77)])
def test_resize_is_pils_bicubic(size_wh):
    rgb_hwc = np.random.default_rng(1).integers(0, 256, (77, 101, 3), np.uint8)
    expected = np.asarray(Pil.fromarray(rgb_hwc).resize(size_wh, Pil.Resampling.BICUBIC))
    assert np.array_equal(imaging.resize_rgb(rgb_hwc, size_wh), expected)


@pytest.mark.parametrize(
    ("width", "height", "max_width", "expected"),
    [(640, 360, 320, (320, 180)), (640, 360, None, (640, 360)), (100, 50, 320, (100, 50)), (4000, 1, 10, (10, 1))],
)
def test_scaled_reduces_only(width, height, max_width, expected):
    h, w, _ = imaging.scaled(np.zeros((height, width, 3), np.uint8), max_width).shape
    assert (w, h) == expected


def test_encoded_pictures_come_back():
    rgb_hwc = np.zeros((48, 64, 3), np.uint8)
    rgb_hwc[:, :32] = (200, 30, 60)
    assert np.array_equal(imaging.decode(imaging.encode(rgb_hwc, "png")), rgb_hwc)
    jpeg = imaging.encode(rgb_hwc, "jpeg", quality=95)
    assert jpeg.startswith(b"\xff\xd8")
    assert np.abs(imaging.decode(jpeg)[24, 16].astype(int) - rgb_hwc[24, 16]).max() <= 4
    assert len(imaging.encode_jpeg(rgb_hwc, 30)) < len(jpeg)


def test_what_is_no_picture_is_refused():
    with pytest.raises(OSError, match="cannot identify"):
        imaging.decode(b"GIF89a and more")


@pytest.mark.parametrize("box_xyxy", [(0, 0, 9, 7), (2, 4, 9, 7), (4, 2, 7, 5), (0, 0, 1, 1), (8, 6, 9, 7)])
def test_a_part_of_a_picture_has_its_pixels(box_xyxy):
    left, top, right, bottom = box_xyxy
    rng = np.random.default_rng(5)
    y_hw = rng.integers(0, 256, (7, 9), np.uint8)
    u_hw, v_hw = rng.integers(0, 256, (2, 4, 5), np.uint8)
    for image in (I420(y_hw, u_hw, v_hw, Colour("bt709")), Rgb(rng.integers(0, 256, (7, 9, 3), np.uint8))):
        part = imaging.part_of(image, box_xyxy)
        assert part.size_wh == (right - left, bottom - top)
        assert np.array_equal(imaging.to_rgb(part), imaging.to_rgb(image)[top:bottom, left:right])


@pytest.mark.parametrize("box_xyxy", [(1, 0, 3, 3), (0, 1, 3, 3)])
def test_a_part_begins_where_chroma_does(box_xyxy):
    planes = np.zeros((4, 4), np.uint8), np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="even"):
        imaging.part_of(I420(*planes), box_xyxy)
