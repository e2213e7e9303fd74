"""The methods that answer operations: each is marked with the operation that it answers, and found by that mark."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import Struct

from tracker.protocol.operations import Operation
from tracker.tracking.jobs import Slices

A = TypeVar("A", bound=Struct)
R = TypeVar("R", bound=Struct)
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Answers:
    """Methods by the operation's name: those that answer at once, and those that take many steps of the model.

    The latter also get the request's id, and give a generator of slices.
    """

    at_once: dict[str, Callable[[Any], Struct]]
    in_slices: dict[str, Callable[[Any, Any], Slices[Struct]]]

    @property
    def names(self) -> set[str]:
        return {*self.at_once, *self.in_slices}


def answers(operation: Operation[A, R]) -> Callable[[Callable[[S, A], R]], Callable[[S, A], R]]:
    """Marks a method that answers `operation` at once."""

    def mark(method: Callable[[S, A], R]) -> Callable[[S, A], R]:
        method.at_once = operation.name  # type: ignore[attr-defined]
        return method

    return mark


def answers_in_slices(
    operation: Operation[A, R],
) -> Callable[[Callable[[S, A, Any], Slices[R]]], Callable[[S, A, Any], Slices[R]]]:
    """Marks a method that answers `operation` slice by slice, beside tracking."""

    def mark(method: Callable[[S, A, Any], Slices[R]]) -> Callable[[S, A, Any], Slices[R]]:
        method.in_slices = operation.name  # type: ignore[attr-defined]
        return method

    return mark


def answers_of(*parts: object) -> Answers:
    """Every marked method of some objects."""
    methods = [method for part in parts for _, method in inspect.getmembers(part, inspect.ismethod)]
    return Answers(
        at_once={method.at_once: method for method in methods if hasattr(method, "at_once")},
        in_slices={method.in_slices: method for method in methods if hasattr(method, "in_slices")},
    )
