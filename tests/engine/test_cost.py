"""The cost of a step is learnt, and forgotten when the machine changes."""

import pytest

from helpers.sides import random_network
from tracker.engine.cost import StepCost
from tracker.engine.engine import Engine
from tracker.engine.models.build import Model


def observed(steps: list[tuple[int, float]]) -> StepCost:
    cost = StepCost()
    for objects, seconds in steps:
        cost.observe(objects, seconds)
    return cost


def test_a_line_through_the_steps() -> None:
    cost = observed([(n, 0.02 + 0.01 * n) for n in (1, 2, 4, 8, 3)])
    assert cost.seconds(16) == pytest.approx(0.18, rel=1e-6)


def test_a_slower_machine_is_noticed() -> None:
    cost = observed([(n, 0.01 * n) for n in (1, 5)] * 50 + [(n, 0.03 * n) for n in (1, 5)] * 100)
    assert cost.seconds(5) == pytest.approx(0.15, rel=0.05)


@pytest.mark.parametrize(("objects", "seconds"), [(1, 0.05), (4, 0.05), (8, 0.1)])
def test_one_number_of_objects_tells_no_slope(objects: int, seconds: float) -> None:
    assert observed([(4, 0.05)] * 10).seconds(objects) == pytest.approx(seconds)


def test_nothing_is_known_at_first() -> None:
    assert StepCost().seconds(3) == 0


def test_the_engine_knows_after_its_warm_up() -> None:
    engine = Engine(Model("tiny", random_network("sam2.1_hiera_tiny", 64)))
    assert engine.cost.seconds(1) == 0
    engine.warm_up()
    assert 0 < engine.cost.seconds(1) <= engine.cost.seconds(4)
