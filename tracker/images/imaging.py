"""Pictures to pixels: colour conversion, resizing, and the image formats that clients get."""

import io
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil

from tracker.images.types import I420, Colour, Image, Rgb
from tracker.masks.types import U8

# Kr and Kb of ITU-R BT.601, BT.709 and BT.2020: red's and blue's parts of luma.
_LUMA_PARTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}

# Rows converted at a time, an even number. Whole pictures at once take up to ten times as long: what lies between
# is then so big that the C library gives its memory back to the system each time.
_BAND_ROWS = 128


def to_rgb(image: Image) -> U8:
    """A picture's pixels, uint8 [h, w, 3] in R, G, B.

    Chroma is repeated, not interpolated, as FFmpeg's converter does. An `Rgb` comes back as it is, not copied.
    """
    if isinstance(image, Rgb):
        return image.rgb_hwc
    w, h = image.size_wh
    from_yuv_34 = yuv_to_rgb_34(image.colour)
    rgb_hwc = np.empty((h, w, 3), np.uint8)
    for top in range(0, h, _BAND_ROWS):
        band_hwc = rgb_hwc[top : top + _BAND_ROWS]
        yuv_hwc = _full_size(image, top, len(band_hwc))
        cv2.transform(yuv_hwc, from_yuv_34, dst=band_hwc)
    return rgb_hwc


def part_of(image: Image, box_xyxy: tuple[int, int, int, int]) -> Image:
    """The pixels inside a box, not copied. Its left and its top have to be even: they are where chroma begins."""
    left, top, right, bottom = box_xyxy
    if isinstance(image, Rgb):
        return Rgb(image.rgb_hwc[top:bottom, left:right])
    if left % 2 or top % 2:
        raise ValueError(f"a part of a picture begins at ({left}, {top}): both have to be even")
    half = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
    y_hw = image.y_hw[top:bottom, left:right]
    return I420(y_hw, image.u_hw[half], image.v_hw[half], image.colour)


def _full_size(image: I420, top: int, count: int) -> U8:
    """`count` rows of a picture from the even row `top` on, its chroma repeated: Y, U, V, uint8 [count, w, 3]."""
    w, _ = image.size_wh
    y_hw = image.y_hw[top : top + count]
    half = slice(top // 2, (top + count + 1) // 2)
    u_hw = _doubled(image.u_hw[half])[:count, :w]
    v_hw = _doubled(image.v_hw[half])[:count, :w]
    return _u8(cv2.merge([y_hw, u_hw, v_hw]))


def resize_rgb(rgb_hwc: U8, size_wh: tuple[int, int]) -> U8:
    """Resized by PIL's bicubic with antialias, as `sam2.utils.misc._load_img_as_tensor` does."""
    if size_wh == (rgb_hwc.shape[1], rgb_hwc.shape[0]):
        return rgb_hwc
    return _u8(np.asarray(Pil.fromarray(rgb_hwc).resize(size_wh, Pil.Resampling.BICUBIC)))


def scaled(rgb_hwc: U8, max_width: int | None) -> U8:
    """Reduced to `max_width` pixels if it is wider, its proportions kept; never enlarged."""
    h, w = rgb_hwc.shape[:2]
    if max_width is None or w <= max_width:
        return rgb_hwc
    return _u8(cv2.resize(rgb_hwc, (max_width, max(1, round(h * max_width / w))), interpolation=cv2.INTER_AREA))


def encode_jpeg(rgb_hwc: U8, quality: int = 85) -> bytes:
    return _encode(".jpg", rgb_hwc, [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(rgb_hwc: U8) -> bytes:
    return _encode(".png", rgb_hwc, [cv2.IMWRITE_PNG_COMPRESSION, 1])


def encode(rgb_hwc: U8, format: Literal["jpeg", "png"], quality: int = 85) -> bytes:
    return encode_png(rgb_hwc) if format == "png" else encode_jpeg(rgb_hwc, quality)


def decode(data: bytes) -> U8:
    """The pixels of a JPEG or PNG file, uint8 [h, w, 3], writable. Raises OSError where `data` is neither."""
    with Pil.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as picture:
        return _u8(np.array(picture.convert("RGB")))


def _encode(suffix: str, rgb_hwc: U8, parameters: list[int]) -> bytes:
    done, data = cv2.imencode(suffix, cv2.cvtColor(rgb_hwc, cv2.COLOR_RGB2BGR), parameters)
    if not done:
        raise ValueError(f"OpenCV cannot write {rgb_hwc.shape} as {suffix}")
    return data.tobytes()


def _doubled(plane_hw: U8) -> U8:
    """Every sample repeated to 2 x 2: written as pairs, which is ten times faster than cv2.resize."""
    h, w = plane_hw.shape
    pairs = np.empty((h, 2, w), np.uint16)
    pairs[:] = plane_hw[:, None, :]
    pairs *= 0x0101
    return pairs.view(np.uint8).reshape(2 * h, 2 * w)


@cache
def yuv_to_rgb_34(colour: Colour) -> NDArray[np.float32]:
    """The affine map from Y, U, V (0 to 255) to R, G, B (0 to 255), float32 [3, 4]: ITU-R BT.601, 709, 2020 and,
    for full range, JFIF."""
    kr, kb = _LUMA_PARTS[colour.matrix]
    kg = 1 - kr - kb
    from_pb_pr = np.array(
        [
            [1, 0, 2 * (1 - kr)],
            [1, -2 * (1 - kb) * kb / kg, -2 * (1 - kr) * kr / kg],
            [1, 2 * (1 - kb), 0],
        ]
    )
    luma, chroma = (1.0, 1.0) if colour.full_range else (255 / 219, 255 / 224)
    scaled_33 = from_pb_pr * [luma, chroma, chroma]
    zero_y = 0.0 if colour.full_range else 16.0
    return np.column_stack([scaled_33, -scaled_33 @ [zero_y, 128.0, 128.0]]).astype(np.float32)


def _u8(array: object) -> U8:
    return np.asarray(array, np.uint8)
