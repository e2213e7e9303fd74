"""Everything that can be found wrong with a configuration before anything starts."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tracker.config import Config, StreamConfig, load, sound_streams
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
    try:
        config = load(path)
    except ConfigError as error:
        raise (_with_what_it_hides(error, path) if with_sources else error) from None
    file = Path(path).absolute()
    found = [*foreign_writers(file, file.parent), *_problems(config), *_stream_problems(config.streams)]
    if with_sources:
        found += [*_source_problems(config.streams), *_folder_problems(config)]
    if found:
        raise ConfigError([f"{path}: {problem}" for problem in found])
    return config


def _with_what_it_hides(error: ConfigError, path: str | Path) -> ConfigError:
    """The same and what is wrong with the streams that are right by themselves; the rest needs a whole
    configuration, which is said."""
    try:
        streams = sound_streams(path)
    except ConfigError:
        return error
    found = [f"{path}: {problem}" for problem in (*_stream_problems(streams), *_source_problems(streams))]
    rest = "once this is mended, look again: model, labels, endpoints and folders were not looked at"
    return ConfigError([*error.problems, *found, f"{path}: {rest}"])


def _source_problems(streams: dict[str, StreamConfig]) -> Iterator[str]:
    for name, stream in streams.items():
        yield from (f"streams.{name}.{problem}" for problem in problems_here(stream))


def _stream_problems(streams: dict[str, StreamConfig]) -> Iterator[str]:
    for name, stream in streams.items():
        yield from (f"streams.{name}.{problem}" for problem in problems(stream))
        for zone, settings in stream.zones.items():
            if (why := region_problem(settings.vertices)) is not None:
                yield f"streams.{name}.zones.{zone}.{why}"


def _folder_problems(config: Config) -> Iterator[str]:
    """Whether the state folder can be made, or written in: a folder beside or in it is made, and taken away."""
    folder = config.persist.folder
    if folder is None:
        return
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        TemporaryDirectory(dir=there).cleanup()
    except OSError as error:
        yield f"persist.dir: {folder} cannot be {'written in' if there == folder else 'made'}: {error.strerror}"


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
    metrics = config.metrics.endpoint
    if metrics is not None and int(metrics.rpartition(":")[2]) > 65535:
        yield f"metrics.endpoint: {metrics} has a port beyond 65535, which is the last there is"
