"""Everything that can be found wrong with a configuration before anything starts."""

from collections.abc import Callable, Iterator
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
from tracker.streams.checks import lacks, slips
from tracker.streams.urls import problems


def check(path: str | Path, *, with_sources: bool = False) -> Config:
    """The configuration of a file. Raises ConfigError with all that is wrong with it.

    `with_sources` also looks at the protocols and formats of the streams and at the state folder. What streams lack
    now (`lacking`) is no fault by itself, and said beside what is one.
    """
    try:
        config = load(path)
    except ConfigError as error:
        raise (_with_what_it_hides(error, path) if with_sources else error) from None
    file = Path(path).absolute()
    found = [*foreign_writers(file, file.parent), *_problems(config), *_stream_problems(config.streams)]
    if with_sources:
        found += [*_of_each(slips, config.streams), *_folder_problems(config)]
        found += lacking(config) if found else []
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
    wrong = *_stream_problems(streams), *_of_each(slips, streams), *_of_each(lacks, streams)
    found = [f"{path}: {problem}" for problem in wrong]
    rest = "once this is mended, look again: model, labels, endpoints and folders were not looked at"
    return ConfigError([*error.problems, *found, f"{path}: {rest}"])


def lacking(config: Config) -> list[str]:
    """Files, folders, variables and secrets that streams name and that are not there now. The daemon starts without
    them: these streams fail, the others go on."""
    return list(_of_each(lacks, config.streams))


def _of_each(look: Callable[[StreamConfig], Iterator[str]], streams: dict[str, StreamConfig]) -> Iterator[str]:
    for name, stream in streams.items():
        yield from (f"streams.{name}.{problem}" for problem in look(stream))


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
