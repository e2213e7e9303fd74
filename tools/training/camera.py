"""What is filmed and how: the backdrop, the camera's path, and what a lens and a codec do to a picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from training.living import living
from training.scenario import FILMED, Affine, Scenario
from training.textures import Bank, Picture


class Backdrop:
    """A still picture, a real clip that goes on moving behind the scene, or one with a known object in it."""

    def __init__(self, rng: np.random.Generator, bank: Bank, scenario: Scenario) -> None:
        self.size_px = scenario.size_px
        self.masks_thw: NDArray[np.bool_] | None = None
        self.film: list[Picture] | None = None
        self.still = bank.picture(rng, scenario.size_px, scenario.real)
        tracked = self._known(rng, bank, scenario) if rng.random() < scenario.filmed else None
        if tracked is not None:
            self.film, self.masks_thw = tracked
        elif rng.random() < 0.6 * scenario.real:
            self.film = bank.stretch(rng, scenario.frames)
        if self.film is not None:
            self.window_33 = self._window(rng, self.film[0])

    @staticmethod
    def _known(
        rng: np.random.Generator, bank: Bank, scenario: Scenario
    ) -> tuple[list[Picture], NDArray[np.bool_]] | None:
        """A real clip with a known object, or a photo come alive: there are more photos than clips."""
        if bank.photos and rng.random() < scenario.living:
            return living(rng, bank.photos, scenario.frames, scenario.pace)
        tracked = bank.tracked(rng, scenario.frames)
        return tracked if tracked is not None and tracked[1].any() else None

    def _window(self, rng: np.random.Generator, picture: Picture) -> Affine:
        """Film -> stage: a square of the film, around the known object where there is one, mirrored at random."""
        height, width = picture.shape[:2]
        if self.masks_thw is None:
            centre_xy, side = rng.uniform(0, 1, 2) * (width, height), min(height, width) * rng.uniform(0.6, 1.0)
        else:
            fullest = int(self.masks_thw.sum((1, 2)).argmax())  # it may yet have to come
            x, y, w, h = cv2.boundingRect(self.masks_thw[fullest].astype(np.uint8))
            side = min(height, width, 1.1 * max(w, h) * float(np.exp(rng.uniform(0, np.log(5)))))
            centre_xy = np.array([x + w / 2, y + h / 2]) + rng.uniform(-0.35, 0.35, 2) * side
        low_xy = np.clip(centre_xy - side / 2, 0, (width - side, height - side))
        # Squeezed, as the model sees pictures that are wider than high: so a window may be less wide than high.
        wide, high = self.size_px / side * float(np.exp(rng.uniform(-0.6, 0.15))), self.size_px / side
        middle_xy = low_xy + side / 2
        window_33 = np.array(
            [
                [wide, 0, self.size_px / 2 - wide * middle_xy[0]],
                [0, high, self.size_px / 2 - high * middle_xy[1]],
                [0, 0, 1.0],
            ]
        )
        mirror_33 = np.array([[-1, 0, self.size_px - 1], [0, 1, 0], [0, 0, 1.0]])
        return mirror_33 @ window_33 if rng.random() < 0.5 else window_33

    def at(self, time: int, camera_33: Affine) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """`[h, w, 3]` picture and `[h, w]` labels of frame `time` through the camera."""
        source, placed_33 = self.still, camera_33
        if self.film is not None:
            source, placed_33 = np.ascontiguousarray(self.film[time]), camera_33 @ self.window_33
        size = (self.size_px, self.size_px)
        picture = cv2.warpAffine(
            source, placed_33[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        label_hw = np.zeros(size, np.uint8)
        if self.masks_thw is not None:
            mask_hw = self.masks_thw[time].astype(np.uint8) * 255
            # Mirrored beyond the film's edge like the picture: what is seen there is the object too.
            seen_hw = cv2.warpAffine(
                mask_hw, placed_33[:2], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
            )
            label_hw[seen_hw > 127] = FILMED
        return picture.astype(np.float32), label_hw


class Lens:
    """Light, blur, noise and compression: one setting for a clip, light and noise differ by frame."""

    def __init__(self, rng: np.random.Generator, scenario: Scenario) -> None:
        self.rng = rng
        self.gain = rng.uniform(0.7, 1.25) * rng.uniform(0.92, 1.08, 3)
        self.flicker = rng.uniform(0, 0.05)
        self.offset = rng.uniform(-20, 20)
        self.blur = rng.uniform(0.3, 1.4) * scenario.size_px / 256 if rng.random() < 0.5 else 0.0
        self.streak = _streak(rng) if rng.random() < 0.15 else None
        self.noise = rng.uniform(0, 10) if rng.random() < 0.5 else 0.0
        self.quality = int(rng.integers(25, 95)) if rng.random() < 0.5 else 0

    def shoot(self, canvas: NDArray[np.float32], time: int) -> Picture:
        """Float canvas -> the uint8 RGB picture of frame `time`."""
        light = self.gain * (1 + self.flicker * np.sin(time * 0.9))
        picture = canvas * light.astype(np.float32) + np.float32(self.offset)
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        if self.streak is not None:
            picture = cv2.filter2D(picture, -1, self.streak)
        if self.noise:
            picture += self.noise * self.rng.standard_normal(picture.shape[:2], np.float32)[..., None]
        picture = np.clip(picture, 0, 255).astype(np.uint8)
        if self.quality:
            _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            picture = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        return np.asarray(picture, np.uint8)


def _streak(rng: np.random.Generator) -> NDArray[np.float32]:
    """A short line kernel: motion blur of a hand-held camera."""
    length = int(rng.integers(3, 8))
    kernel = np.zeros((length, length), np.float32)
    end = (length - 1, int(rng.integers(length)))
    cv2.line(kernel, (0, length - 1 - end[1]), end, 1.0)
    return np.asarray(kernel / kernel.sum(), np.float32)
