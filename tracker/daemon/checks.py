"""Everything that can be found wrong with a configuration before anything starts."""

from collections.abc import Iterator
from pathlib import Path

from tracker.config import Config, load
from tracker.daemon.trust import foreign_writers
from tracker.engine.models.build import check_model
from tracker.errors import ConfigError, ModelError
from tracker.labels.check import check as check_labels
from tracker.masks.regions import region_problem
from tracker.registry.folder import DATABASE, MEMORIES
from tracker.sockets import access
from tracker.streams.allowlist import pattern_problem
from tracker.streams.checks import problems_here
from tracker.streams.urls import problems


def check(path: str | Path, *, with_sources: bool = False) -> Config:
    """The configuration of a file. Raises ConfigError with all that is wrong with it.

    `with_sources` looks for files, folders, variables and protocols of the streams too. The daemon itself starts
    without them: one stream fails, the others go on.
    """
    config = load(path)
    file = Path(path).absolute()
    found = [*foreign_writers(file, file.parent), *_problems(config)]
    if with_sources:
        found += _source_problems(config)
    if found:
        raise ConfigError([f"{path}: {problem}" for problem in found])
    return config


def _source_problems(config: Config) -> list[str]:
    return [
        f"streams.{name}.{problem}" for name, stream in config.streams.items() for problem in problems_here(stream)
    ]


def _problems(config: Config) -> Iterator[str]:
    for look in (access.check, check_labels, lambda config: check_model(config.model)):
        try:
            look(config)
        except ConfigError as error:
            yield from error.problems
        except ModelError as error:
            yield error.message
    folder = config.persist.folder
    if folder is not None and folder.exists() and not folder.is_dir():
        yield f"persist.dir: {folder} is no folder"
    elif folder is not None:
        kept = (folder.absolute().parent, folder, folder / DATABASE, folder / MEMORIES)
        yield from (f"persist.dir: {problem}" for problem in foreign_writers(*kept))
    for pattern in config.control.allow_sources:
        if problem := pattern_problem(pattern):
            yield f"control.allow_sources: {pattern!r} {problem}"
    for name, stream in config.streams.items():
        yield from (f"streams.{name}.{problem}" for problem in problems(stream))
        for zone, settings in stream.zones.items():
            if (why := region_problem(settings.vertices)) is not None:
                yield f"streams.{name}.zones.{zone}.{why}"
