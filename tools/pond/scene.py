"""A scene with known truth: koi in a pond, filmed from above by a camera that is not quite still.

Four fish bend, turn, cross and swim under lily pads; numbers 1 and 2 are the ones that the demo tracks. Nothing is
read from disk: textures come from seeded noise, so every machine renders the same film.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from opencv import remapped

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 20, 11
FRAMES = FPS * SECONDS
NOISE_LEVELS = 3.0
SHADOW_PX = 28  # how far a shadow reaches
FISH_LENGTH_PX, FISH_HEIGHT_PX = 256, 144  # of the texture; `Fish.scale` makes it smaller
PAD_PX = 320


@dataclass(frozen=True)
class Fish:
    """`path_k3` holds (second, x, y) where the middle of the fish is; in between it swims along a smooth curve."""

    rgba: U8
    path_k3: NDArray[np.float64]
    scale: float
    wags_per_s: float


@dataclass(frozen=True)
class Pad:
    rgba: U8
    centre_xy: tuple[float, float]
    scale: float


def render(seed: int = 5) -> Iterator[tuple[U8, U8]]:
    """Yield (picture [h, w, 3] RGB, truth [h, w]: the fish seen at each pixel, 0 for none) for each frame."""
    rng = np.random.default_rng(seed)
    bottom, ripples_hw = _pond_bottom(rng), _noise(rng, HEIGHT, WIDTH, 9)
    shoal, pads = _shoal(rng), _pads(rng)
    for index in range(FRAMES):
        yield _photograph(rng, index / FPS, bottom, ripples_hw, shoal, pads)


def _photograph(
    rng: np.random.Generator, time_s: float, bottom: U8, ripples_hw: F32, shoal: list[Fish], pads: list[Pad]
) -> tuple[U8, U8]:
    camera_33 = _camera(rng, time_s)
    size_wh = (WIDTH, HEIGHT)
    picture = cv2.warpAffine(bottom, camera_33[:2], size_wh, borderMode=cv2.BORDER_REFLECT_101).astype(np.float32)
    truth_hw = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in (4, 3, 2, 1):  # from the deepest up
        fish = shoal[number - 1]
        _paint(picture, truth_hw, _bent(fish, time_s), camera_33 @ _placed(fish, time_s), number, shadow=0.45)
    light_hw = 1 + 0.07 * np.sin(14 * ripples_hw + 2.1 * time_s)  # of the water's surface, over fish and bottom
    picture *= light_hw[..., None].astype(np.float32)
    for pad in pads:
        _paint(picture, truth_hw, pad.rgba, camera_33 @ _floating(pad, time_s), 0, shadow=0.3)
    picture += NOISE_LEVELS * rng.standard_normal((HEIGHT, WIDTH, 1), np.float32)
    picture += NOISE_LEVELS / 2 * rng.standard_normal(picture.shape, np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8), truth_hw


def _camera(rng: np.random.Generator, time_s: float) -> NDArray[np.float64]:
    """Pond to picture, [3, 3]: sways, rolls and trembles a little."""
    x = 6 * np.sin(0.7 * time_s) + rng.normal(0, 0.3)
    y = 4 * np.sin(0.9 * time_s + 1) + rng.normal(0, 0.3)
    return _affine(WIDTH / 2 + x, HEIGHT / 2 + y, 0.012 * np.sin(0.5 * time_s), 1.02) @ _affine(
        -WIDTH / 2, -HEIGHT / 2
    )


def _affine(x: float, y: float, angle: float = 0.0, scale: float = 1.0) -> NDArray[np.float64]:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])


def _paint(
    picture: F32, truth_hw: U8, rgba: U8, placed_33: NDArray[np.float64], number: int, shadow: float
) -> None:
    """Lay a texture over the picture, its shadow first, and its number over the truth where it is seen."""
    left, top, right, bottom = _window(placed_33, rgba.shape[1], rgba.shape[0])
    size_wh = (right - left, bottom - top)
    if min(size_wh) < 1:
        return
    layer = cv2.warpAffine(rgba, (_affine(-left, -top) @ placed_33)[:2], size_wh, flags=cv2.INTER_LINEAR)
    alpha_hw = layer[..., 3].astype(np.float32) / 255
    fallen_hw = cv2.GaussianBlur(cv2.warpAffine(alpha_hw, _affine(6, 9)[:2], size_wh), (0, 0), 5)
    part = picture[top:bottom, left:right]
    part *= (1 - shadow * fallen_hw)[..., None]
    part += alpha_hw[..., None] * (layer[..., :3] - part)
    truth_hw[top:bottom, left:right][layer[..., 3] > 127] = number


def _window(placed_33: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the picture in which a placed texture and its shadow fall."""
    corners_2n = placed_33[:2] @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    left, top = np.clip(corners_2n.min(1) - SHADOW_PX, 0, (WIDTH, HEIGHT)).astype(int)
    right, bottom = np.clip(corners_2n.max(1) + SHADOW_PX, 0, (WIDTH, HEIGHT)).astype(int)
    return int(left), int(top), int(right), int(bottom)


def _bent(fish: Fish, time_s: float) -> U8:
    """The texture with the wave of swimming in it, growing from head to tail, and the curve of its turn."""
    along_w = 1 - np.arange(FISH_LENGTH_PX) / FISH_LENGTH_PX  # the head is at the right: 0
    wave_w = 13 * (0.15 + along_w) ** 2 * np.sin(2 * np.pi * (0.8 * along_w - fish.wags_per_s * time_s))
    turn = _heading(fish, time_s + 0.2) - _heading(fish, time_s - 0.2)
    turn = (turn + np.pi) % (2 * np.pi) - np.pi
    curve_w = 60 * np.clip(turn, -0.6, 0.6) * (along_w - 0.5) ** 2
    x_hw, y_hw = np.meshgrid(np.arange(FISH_LENGTH_PX), np.arange(FISH_HEIGHT_PX))
    y_hw = y_hw + wave_w - curve_w
    maps_hw2 = np.stack([x_hw, y_hw], axis=-1).astype(np.float32)
    return remapped(fish.rgba, maps_hw2)


def _placed(fish: Fish, time_s: float) -> NDArray[np.float64]:
    x, y = _along(fish.path_k3, time_s)
    middle_33 = _affine(-FISH_LENGTH_PX / 2, -FISH_HEIGHT_PX / 2)
    return _affine(x, y, _heading(fish, time_s), fish.scale) @ middle_33


def _heading(fish: Fish, time_s: float) -> float:
    dx, dy = _along(fish.path_k3, time_s + 0.15) - _along(fish.path_k3, time_s - 0.15)
    return float(np.arctan2(dy, dx))


def _along(path_k3: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
    """Where a path is, [2]: a cubic Hermite curve through its points, straight on beyond its ends."""
    seconds_k, points_k2 = path_k3[:, 0], path_k3[:, 1:]
    slopes_k2 = np.gradient(points_k2, seconds_k, axis=0)
    if not seconds_k[0] <= time_s <= seconds_k[-1]:
        end = 0 if time_s < seconds_k[0] else -1
        beyond_s = time_s - seconds_k[end]
        return np.asarray(points_k2[end] + slopes_k2[end] * beyond_s, np.float64)
    k = min(int(np.searchsorted(seconds_k, time_s, side="right")), len(path_k3) - 1) - 1
    span = seconds_k[k + 1] - seconds_k[k]
    u = (time_s - seconds_k[k]) / span
    start = (1 + 2 * u) * (1 - u) ** 2 * points_k2[k] + u * (1 - u) ** 2 * span * slopes_k2[k]
    stop = u**2 * (3 - 2 * u) * points_k2[k + 1] + u**2 * (u - 1) * span * slopes_k2[k + 1]
    return np.asarray(start + stop, np.float64)


def _floating(pad: Pad, time_s: float) -> NDArray[np.float64]:
    x, y = pad.centre_xy
    drift_x, drift_y = 4 * np.sin(0.6 * time_s + x), 3 * np.sin(0.5 * time_s + y)
    angle = x + 0.08 * np.sin(0.4 * time_s)
    return _affine(x + drift_x, y + drift_y, angle, pad.scale) @ _affine(-PAD_PX / 2, -PAD_PX / 2)


# ------------------------------------------------------------------------------------------- who swims, and where


def _shoal(rng: np.random.Generator) -> list[Fish]:
    red, white, gold, black = (214, 68, 24), (238, 232, 222), (226, 170, 50), (38, 38, 46)
    slate, brown = (84, 96, 98), (110, 84, 58)
    return [
        Fish(
            _koi(rng, white, red, 0.45),
            _path((0, 105, 85), (3, 230, 95), (6, 370, 95), (9, 490, 120), (11, 570, 170)),
            0.62,
            1.1,
        ),
        Fish(
            _koi(rng, gold, black, 0.28),
            _path(
                (0, 545, 285),
                (2, 420, 318),
                (4, 250, 312),
                (6.3, 110, 260),
                (7.6, 130, 170),
                (9, 235, 105),
                (10, 320, 90),
                (11, 420, 100),
            ),
            0.62,
            0.9,
        ),
        Fish(
            _koi(rng, slate, brown, 0.7),
            _path((0, 190, 400), (2, 190, 310), (3.2, 130, 240), (4.6, -40, 220), (8, -300, 200), (11, -500, 200)),
            0.55,
            1.4,
        ),
        Fish(
            _koi(rng, brown, black, 0.5),
            _path((0, 500, 170), (2, 570, 195), (4, 730, 215), (11, 1300, 260)),
            0.5,
            1.2,
        ),
    ]


def _pads(rng: np.random.Generator) -> list[Pad]:
    places = [((430.0, 45.0), 0.33), ((305.0, 208.0), 0.7), ((590.0, 30.0), 0.5), ((25.0, 335.0), 0.4)]
    return [Pad(_pad(rng), centre_xy, scale) for centre_xy, scale in places]


def _path(*points: tuple[float, float, float]) -> NDArray[np.float64]:
    return np.array(points, np.float64)


# ------------------------------------------------------------------------------------------------------- textures


def _noise(rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 1) -> F32:
    """Smooth noise, 0 to 1, [height, width]; each octave is twice as fine and half as strong."""
    total_hw = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        coarse = rng.random((max(2, count * height // width), count), np.float32)
        total_hw += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return np.asarray((total_hw - total_hw.min()) / np.ptp(total_hw), np.float32)


def _mixed(share_hw: F32, low: tuple[int, ...], high: tuple[int, ...]) -> F32:
    share_hw1 = share_hw[..., None]
    mixed: F32 = share_hw1 * np.array(high, np.float32) + (1 - share_hw1) * np.array(low, np.float32)
    return mixed


def _pond_bottom(rng: np.random.Generator) -> U8:
    """Mud and pebbles under green water."""
    mud = _mixed(_noise(rng, HEIGHT, WIDTH, 6, octaves=6), (34, 58, 50), (104, 124, 92))
    seeds_hw = np.full((HEIGHT, WIDTH), 255, np.uint8)
    seeds_hw[rng.integers(0, HEIGHT, 420), rng.integers(0, WIDTH, 420)] = 0
    from_centre_hw, cell_hw = cv2.distanceTransformWithLabels(seeds_hw, cv2.DIST_L2, 5)
    shade_n = rng.uniform(0.8, 1.2, int(cell_hw.max()) + 1).astype(np.float32)
    pebble_hw = np.clip(1.6 - from_centre_hw / 9, 0, 1) * np.clip(4 * _noise(rng, HEIGHT, WIDTH, 5) - 1.4, 0, 1)
    pebbles = shade_n[cell_hw][..., None] * _mixed(_noise(rng, HEIGHT, WIDTH, 60), (58, 80, 66), (92, 112, 92))
    bottom = mud + pebble_hw[..., None] * (pebbles - mud)
    return np.asarray(np.clip(bottom, 0, 255), np.uint8)


def _koi(rng: np.random.Generator, base: tuple[int, int, int], patch: tuple[int, int, int], patches: float) -> U8:
    """A fish seen from above, [h, w, 4], head to the right; `patches` is how far they spread, 0 to 1."""
    height, width = FISH_HEIGHT_PX, FISH_LENGTH_PX
    x_hw, y_hw = np.meshgrid(
        np.linspace(0, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    )
    half_w = _koi_profile(x_hw[0])
    across_hw = np.abs(y_hw) / half_w
    patch_hw = np.clip((patches - _noise(rng, height, width, 7, octaves=2)) * 12, 0, 1)
    scales_hw = 0.92 + 0.16 * _noise(rng, height, width, 60)
    rounded_hw = 1.12 - 0.5 * np.clip(across_hw, 0, 1) ** 3
    skin = _mixed(patch_hw, base, patch) * (scales_hw * rounded_hw)[..., None]
    fins_hw = _fins(height, width)
    fins_hw[across_hw < 1] = 0
    rays_hw = 12 * np.sin(90 * np.hypot(x_hw, y_hw))
    skin[fins_hw > 0] = 0.55 * np.array(base, np.float32) + 40 + rays_hw[fins_hw > 0][:, None]
    for side in (-1, 1):
        eye_xy = (round(0.93 * width), round(height / 2 + side * 0.11 * height))
        cv2.circle(skin, eye_xy, 4, (12, 12, 14), -1, cv2.LINE_AA)
    alpha_hw = np.maximum((across_hw < 1).astype(np.uint8) * 255, fins_hw)
    return np.dstack([np.clip(skin, 0, 255).astype(np.uint8), cv2.GaussianBlur(alpha_hw, (3, 3), 0)])


def _koi_profile(along_w: F32) -> F32:
    """Half the body's width at each place from tail to head, as a share of the texture's half height."""
    places = [0.0, 0.04, 0.12, 0.22, 0.30, 0.45, 0.62, 0.78, 0.90, 0.97, 0.99, 1.0]
    widths = [0.02, 0.34, 0.26, 0.12, 0.14, 0.28, 0.40, 0.42, 0.34, 0.18, 0.06, 1e-3]
    smooth_w = cv2.GaussianBlur(np.interp(along_w, places, widths)[None], (15, 1), 0)[0]
    return np.asarray(np.maximum(smooth_w, 1e-3), np.float32)


def _fins(height: int, width: int) -> U8:
    fins_hw = np.zeros((height, width), np.uint8)
    for side in (-1, 1):
        corners = [(0.80, 0.33), (0.68, 0.85), (0.58, 0.80), (0.66, 0.33), (0.46, 0.22), (0.36, 0.46), (0.33, 0.15)]
        polygon = [(x * width, height / 2 * (1 + side * y)) for x, y in corners]
        cv2.fillPoly(fins_hw, [np.round(polygon).astype(np.int32)], 255, cv2.LINE_AA)
    return fins_hw


def _pad(rng: np.random.Generator) -> U8:
    """A lily pad, [PAD_PX, PAD_PX, 4], with its notch and veins."""
    y_hw, x_hw = np.mgrid[-1 : 1 : PAD_PX * 1j, -1 : 1 : PAD_PX * 1j].astype(np.float32)
    radius_hw, angle_hw = np.hypot(x_hw, y_hw), np.arctan2(y_hw, x_hw)
    leaf = _mixed(_noise(rng, PAD_PX, PAD_PX, 8, octaves=4), (40, 92, 36), (112, 160, 66))
    vein_hw = np.abs(np.sin(7 * angle_hw + 0.6 * radius_hw)) < 0.09 + 0.05 * (1 - radius_hw)
    leaf[vein_hw] = leaf[vein_hw] * 0.6 + np.array((66, 72, 40), np.float32)
    leaf *= (1.05 - 0.3 * radius_hw**6)[..., None]
    rim_hw = 0.95 + 0.02 * np.sin(9 * angle_hw)
    inside_hw = (radius_hw < rim_hw) & (np.abs(angle_hw) > 0.07)
    return np.dstack([np.clip(leaf, 0, 255), inside_hw * 255]).astype(np.uint8)
