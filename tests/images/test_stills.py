"""Picture files are read as a viewer shows them, and refused in clear words."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pil

from tracker.errors import SourceError
from tracker.images.limits import MAX_PIXELS
from tracker.images.stills import natural_order, read_still


def corners() -> np.ndarray:
    """Red top left, the rest grey, uint8 [12, 20, 3]."""
    rgb_hwc = np.full((12, 20, 3), 90, np.uint8)
    rgb_hwc[:4, :4] = (230, 20, 20)
    return rgb_hwc


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".PNG"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Pil.fromarray(corners()).save(path, quality=100, **lossless)
    difference_hwc = np.abs(read_still(path).astype(int) - corners())
    if suffix.startswith(".j"):
        assert difference_hwc.mean() < 10
    else:
        assert difference_hwc.max() == 0


@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, lambda upright: upright),
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.transpose(1, 0, 2)),
        (6, lambda upright: np.rot90(upright, 1)),
        (7, lambda upright: upright[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_exif_orientation(tmp_path, orientation, stored):
    exif = Pil.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Pil.fromarray(np.ascontiguousarray(stored(corners()))).save(path, exif=exif)
    assert np.array_equal(read_still(path), corners())


def test_16_bit_grey_is_scaled_to_8(tmp_path):
    grey_hw = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for suffix in (".png", ".tif"):
        Pil.fromarray(grey_hw).save(tmp_path / f"a{suffix}")
        assert read_still(tmp_path / f"a{suffix}")[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_palettes(tmp_path):
    for suffix in (".png", ".bmp", ".tif"):
        Pil.fromarray(corners()).convert("P", palette=Pil.Palette.ADAPTIVE).save(tmp_path / f"a{suffix}")
        assert np.array_equal(read_still(tmp_path / f"a{suffix}"), corners())


def huge_png(w: int, h: int) -> bytes:
    """A PNG's signature and header: what a picture says of its size before anything is decoded."""
    header = b"IHDR" + struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(chunk, (header, b"IDAT" + zlib.compress(b""), b"IEND")))


def chunk(named: bytes) -> bytes:
    return struct.pack(">I", len(named) - 4) + named + struct.pack(">I", zlib.crc32(named))


@pytest.mark.parametrize("size_wh", [(16384, 8193), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, size_wh):
    path = tmp_path / "bomb.png"
    path.write_bytes(huge_png(*size_wh))
    assert size_wh[0] * size_wh[1] > MAX_PIXELS
    with pytest.raises(SourceError, match=r"bomb\.png: is not a picture that can be read: has .* pixels"):
        read_still(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"not a picture", "it is none of JPEG, PNG, TIFF, WEBP, BMP"),
        (b"", "it is none of JPEG, PNG, TIFF, WEBP, BMP"),
        (b"\x89PNG\r\n\x1a\nshort", "is not a picture"),
    ],
)
def test_what_is_no_picture(tmp_path, data, words):
    path = tmp_path / "a.png"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=words):
        read_still(path)


def test_a_picture_that_breaks_off_is_refused(tmp_path):
    file = io.BytesIO()
    Pil.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(file.getvalue()[:800])
    with pytest.raises(SourceError, match="truncated"):
        read_still(path)


def test_floating_point_pixels_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    Pil.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(SourceError, match="floating-point"):
        read_still(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(SourceError, match=r"none\.png: is not a picture"):
        read_still(tmp_path / "none.png")


@pytest.mark.parametrize(
    "names",
    [
        ["frame_0", "frame_1", "frame_2", "frame_10", "frame_11"],
        ["1", "2", "10", "0100"],
        ["a", "a1", "a1b", "a2", "b"],
        ["cam1_9", "cam1_10", "cam2_1", "cam10_1"],
    ],
)
def test_natural_order(names):
    paths = [Path(f"{name}.png") for name in names]
    mixed = sorted(paths, key=str)
    mixed.sort(key=natural_order)
    assert mixed == paths
