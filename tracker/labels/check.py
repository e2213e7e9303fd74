"""What can be wrong with the settings of labelling, found before anything is loaded."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from tracker.config import Config, LabelsConfig
from tracker.config.wording import why_unreadable
from tracker.engine.clip import INSTALL, device_of, source_of
from tracker.errors import ConfigError, ModelError


def check(config: Config) -> None:
    """Raises ConfigError with everything that can be seen to be wrong without loading or fetching a model."""
    problems = list(_problems(config))
    if problems:
        raise ConfigError(problems)


def texts_problem(texts: list[str], config: LabelsConfig) -> str | None:
    """What is wrong with a list of texts, in words that go behind its key; None: nothing."""
    if texts and config.model is None:
        return "guessing labels is off; the configuration has to name a CLIP model in labels.model"
    if len(texts) == 1:
        return "one text alone says nothing, for the likeliest one is the guess; give two or more"
    twice = next((text for text in texts if texts.count(text) > 1), None)
    return None if twice is None else f"{twice!r} stands twice"


def _problems(config: Config) -> Iterator[str]:
    labels = config.labels
    lists = {f"streams.{name}.labels": stream.labels or [] for name, stream in config.streams.items()}
    for path, texts in {"labels.texts": labels.texts, **lists}.items():
        if (problem := texts_problem(texts, labels)) is not None:
            yield f"{path}: {problem}"
    if labels.model is None:
        return
    if importlib.util.find_spec("transformers") is None:
        yield INSTALL
    try:
        _check_folder(source_of(labels.model))
    except ModelError as error:
        yield error.message
    try:
        device_of(labels.device)
    except ModelError as error:
        yield error.message
    if labels.template.count("{}") != 1:
        yield f"labels.template: must hold {{}} once, where the text goes (found {labels.template!r})"
    searched = config.persist.folder is not None  # looks are kept, and CLIP finds them by words
    if not (labels.texts or any(lists.values()) or config.control.allow_sources or searched):
        yield "labels.texts: there are none, and no stream has labels of its own: there is nothing to guess"


def _check_folder(source: str) -> None:
    """Raises ModelError where a folder holds no CLIP model. What is on the hub shows when it is loaded."""
    if not Path(source).is_dir():
        return
    try:
        settings = json.loads(Path(source, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = why_unreadable(error) if isinstance(error, OSError) else "it is not valid JSON"
        raise ModelError(
            f"labels.model: {source} holds no CLIP model that transformers has saved: config.json: {why}"
        ) from None
    kind = settings.get("model_type") if isinstance(settings, dict) else None
    if kind != "clip":
        raise ModelError(f"labels.model: {source} holds a model of type {kind!r}; labels need one of type 'clip'")
