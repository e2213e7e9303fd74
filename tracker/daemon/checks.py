"""Everything that can be found wrong with a configuration before anything starts."""

from collections.abc import Iterator
from pathlib import Path

from tracker.config import Config, load
from tracker.engine.models.build import check_model
from tracker.errors import ConfigError, ModelError
from tracker.labels.check import check as check_labels
from tracker.sockets import access
from tracker.streams.allowlist import pattern_problem
from tracker.streams.urls import problems


def check(path: str | Path) -> Config:
    """The configuration of a file. Raises ConfigError with all that is wrong with it."""
    config = load(path)
    if problems := [f"{path}: {problem}" for problem in _problems(config)]:
        raise ConfigError(problems)
    return config


def _problems(config: Config) -> Iterator[str]:
    for look in (access.check, check_labels, lambda config: check_model(config.model)):
        try:
            look(config)
        except ConfigError as error:
            yield from error.problems
        except ModelError as error:
            yield error.message
    for pattern in config.control.allow_sources:
        if problem := pattern_problem(pattern):
            yield f"control.allow_sources: {pattern!r} {problem}"
    for name, stream in config.streams.items():
        yield from (f"streams.{name}.{problem}" for problem in problems(stream))
