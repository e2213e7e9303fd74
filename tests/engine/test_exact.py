"""The engine's masks are the official predictor's: every kind of prompt, several objects, corrections, removal."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helpers.sides import FRAMES, SIZE_WH, Difference, Official, Ours, Pair, compare
from tracker.engine import memory as track_module
from tracker.engine.memory import MemoryBank, ObjectMemory
from tracker.protocol.prompt import Prompt

Side = Ours | Official
Scenario = Callable[[Side], None]
LAST = FRAMES - 1

MODELS = [("nano", 128), ("sam2.1_hiera_tiny", 96)]


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}")
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair.make(*request.param, plain=True)


def click(*xy_label: tuple[float, float, int], box: tuple[int, ...] | None = None, replace: bool = False) -> Prompt:
    points = np.array([(x, y) for x, y, _ in xy_label], np.float32).reshape(-1, 2)
    labels = np.array([label for _, _, label in xy_label], np.int32)
    return Prompt(points, labels, None if box is None else np.array(box, np.float32), replace=replace)


def disc(x: int, y: int, radius: int) -> Prompt:
    ys, xs = np.mgrid[: SIZE_WH[1], : SIZE_WH[0]]
    return Prompt(mask_hw=(xs - x) ** 2 + (ys - y) ** 2 < radius**2)


LEFT, RIGHT = click((40, 48, 1)), click((128, 72, 1))


def one_prompt(prompt: Prompt) -> Scenario:
    def run(side: Side) -> None:
        side.prompt(1, 0, prompt)
        side.follow(0, LAST)

    return run


def objects(count: int) -> Scenario:
    def run(side: Side) -> None:
        for k in range(count):
            side.prompt(k, 0, click((20 + 25 * k, 30 + 15 * k, 1)))
        side.follow(0, 8)

    return run


def later_object(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.follow(0, 6)
    side.prompt(2, 6, click(box=(100, 50, 150, 100)))
    side.follow(6, 12)


def clicks_before_tracking(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.prompt(1, 0, click((60, 60, 0)))
    side.prompt(1, 0, click((45, 50, 1), (30, 80, 0)))
    side.follow(0, 8)


def two_prompted_frames_before_tracking(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.prompt(1, 5, click((56, 48, 1), (90, 30, 0)))
    side.follow(0, 12)


def correction_mid_stream(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.prompt(2, 0, RIGHT)
    side.follow(0, 9)
    side.prompt(1, 9, click((75, 48, 1)))
    side.follow(9, 13)


def corrections_on_one_frame(side: Side) -> None:
    """Two before propagation goes on, one after it."""
    side.prompt(1, 0, LEFT)
    side.follow(0, 6)
    side.prompt(1, 6, click((60, 48, 1)))
    side.prompt(1, 6, click((20, 20, 0)))
    side.follow(6, 8)
    side.prompt(1, 6, click((65, 52, 1)))
    side.follow(6, 12)


def correction_of_an_earlier_frame(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.prompt(2, 0, RIGHT)
    side.follow(0, 9)
    side.prompt(1, 5, click((56, 48, 1), (100, 90, 0)))
    side.follow(5, 11)


def earlier_correction_keeps_the_later_one(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.follow(0, 10)
    side.prompt(1, 10, click((76, 48, 1)))
    side.follow(10, 13)
    side.prompt(1, 4, click((52, 48, 1)))
    side.follow(4, 12)
    side.prompt(1, 10, click((40, 100, 0)))
    side.follow(10, 14)


def correction_of_the_first_frame(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.follow(0, 7)
    side.prompt(1, 0, click((60, 20, 0)))
    side.follow(0, 12)


def box_replaces_a_correction(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.follow(0, 6)
    side.prompt(1, 6, click((60, 48, 1)))
    side.prompt(1, 6, click((64, 48, 1), box=(30, 20, 90, 80), replace=True))
    side.follow(6, 10)
    side.prompt(1, 8, disc(70, 50, 25))
    side.follow(8, 14)


def four_conditioning_frames(side: Side) -> None:
    side.prompt(1, 0, LEFT)
    side.follow(0, 5)
    for frame, x in ((5, 56), (9, 75), (13, 90)):
        side.prompt(1, frame, click((x, 48, 1)))
        side.follow(frame, frame + 4)
    side.follow(17, LAST)


def one_of_three_removed(side: Side) -> None:
    for k, prompt in enumerate((LEFT, RIGHT, disc(60, 60, 20))):
        side.prompt(k, 0, prompt)
    side.follow(0, 7)
    side.remove(1)
    side.follow(7, 10)


SCENARIOS: dict[str, Scenario] = {
    "one point": one_prompt(LEFT),
    "several points with negatives": one_prompt(click((40, 48, 1), (50, 55, 1), (80, 30, 0), (20, 90, 0))),
    "a box": one_prompt(click(box=(15, 25, 70, 75))),
    "a box with points": one_prompt(click((40, 48, 1), (20, 28, 0), box=(15, 25, 70, 75))),
    "a mask": one_prompt(disc(40, 48, 22)),
    "two objects": objects(2),
    "five objects": objects(5),
    "an object added later": later_object,
    "clicks before tracking": clicks_before_tracking,
    "two prompted frames before tracking": two_prompted_frames_before_tracking,
    "a correction mid-stream": correction_mid_stream,
    "corrections on one frame": corrections_on_one_frame,
    "a correction of an earlier frame": correction_of_an_earlier_frame,
    "an earlier correction keeps the later one": earlier_correction_keeps_the_later_one,
    "a correction of the first frame": correction_of_the_first_frame,
    "a box replaces a correction": box_replaces_a_correction,
    "four conditioning frames": four_conditioning_frames,
    "one of three removed": one_of_three_removed,
}


def difference(pair: Pair, scenario: Scenario, direction: int = 1) -> Difference:
    ours, theirs = Ours(pair, direction), Official(pair, direction)
    scenario(ours)
    scenario(theirs)
    return compare(ours.masks, theirs.masks)


def assert_exact(found: Difference) -> None:
    assert found.mixed >= 0.9, found
    assert found.of_std <= 1e-4, found
    assert found.same_pixels >= 0.9999, found


@pytest.mark.parametrize("name", SCENARIOS)
def test_masks_equal_the_official_predictors(pair: Pair, name: str) -> None:
    assert_exact(difference(pair, SCENARIOS[name]))


def test_backwards_too(pair: Pair) -> None:
    def back_from_the_end(side: Side) -> None:
        side.prompt(1, LAST, click((105, 48, 1)))
        side.prompt(2, LAST, click(box=(50, 50, 90, 100)))
        side.follow(LAST, 8)
        side.prompt(1, 8, click((66, 48, 1)))
        side.follow(8, 0)

    assert_exact(difference(pair, back_from_the_end, direction=-1))


def fewer(name: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(track_module, name, getattr(track_module, name) - 1)


def keep_what_upstream_drops(patch: pytest.MonkeyPatch) -> None:
    """A corrected frame's memory counts twice: as conditioning, and still as one of the last six."""
    bank = ObjectMemory.bank

    def with_corrected(self: ObjectMemory, frame: int, step: int) -> MemoryBank:
        right = bank(self, frame, step)
        recent = [(step - e.step, e) for e in self.past if e.conditioning and 1 <= step - e.step <= 6]
        return replace(right, memories=(*right.memories, *recent))

    patch.setattr(ObjectMemory, "bank", with_corrected)


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}")
def untrained(request: pytest.FixtureRequest) -> Pair:
    """Weights as initialised listen to every memory; to a trained model one more or less can mean nothing."""
    return Pair.make(*request.param, plain=True, trained=False)


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (fewer("POINTERS"), "one point"),
        (fewer("MEMORIES"), "one point"),
        (keep_what_upstream_drops, "a correction mid-stream"),
    ],
    ids=["one pointer fewer", "one memory fewer", "a memory kept that upstream drops"],
)
def test_a_wrong_engine_is_caught(
    untrained: Pair, fault: Callable[[pytest.MonkeyPatch], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_exact(difference(untrained, SCENARIOS[name]))
    fault(monkeypatch)
    with pytest.raises(AssertionError, match="of_std"):
        assert_exact(difference(untrained, SCENARIOS[name]))
