"""The largest picture that is decoded, wherever it comes from."""

MAX_PIXELS = 128 * 2**20  # 16384 x 8192; a decoded picture takes up to 3 bytes a pixel, and is copied on its way

MAX_ENLARGED_PIXELS = 2**23  # 4096 x 2048: a small picture is not enlarged beyond; each pixel costs time and memory


def enlarged_too_far(wanted_wh: tuple[int, int], source_wh: tuple[int, int]) -> str | None:
    """Why a source is not scaled to `wanted_wh`; None where it is."""
    wanted, given = wanted_wh[0] * wanted_wh[1], source_wh[0] * source_wh[1]
    if wanted <= max(given, MAX_ENLARGED_PIXELS):
        return None
    sizes = f"{wanted_wh[0]}x{wanted_wh[1]} enlarges pictures of {source_wh[0]}x{source_wh[1]}"
    return f"size: {sizes}; to at most {MAX_ENLARGED_PIXELS // 10**6} million pixels"


def oversize(size_wh: tuple[int, int]) -> str | None:
    """Why a picture of this size is refused before it is decoded; None where it is not."""
    w, h = size_wh
    if w * h <= MAX_PIXELS:
        return None
    return f"has {w}x{h} pixels; at most {MAX_PIXELS // 10**6} million are decoded: reduce it first"
