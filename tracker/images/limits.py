"""The largest picture that is decoded, wherever it comes from."""

MAX_PIXELS = 128 * 2**20  # 16384 x 8192; a decoded picture takes up to 3 bytes a pixel, and is copied on its way


def oversize(size_wh: tuple[int, int]) -> str | None:
    """Why a picture of this size is refused before it is decoded; None where it is not."""
    w, h = size_wh
    if w * h <= MAX_PIXELS:
        return None
    return f"has {w}x{h} pixels; at most {MAX_PIXELS // 10**6} million are decoded: reduce it first"
