"""Settings of labels that cannot be right are refused before anything is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from tracker import config
from tracker.config import LabelsConfig
from tracker.engine.clip import Clip
from tracker.errors import ConfigError, ModelError
from tracker.labels.check import check

ON = "labels: {model: clip-vit-base-patch32, texts: [cat, dog]}\n"


class TestCheck:
    @pytest.mark.parametrize(
        ("text", "problems"),
        [
            ("", []),
            (ON, []),
            ("labels: {model: clip-vit-base-patch32}\nstreams: {a: {url: x, labels: [cat, dog]}}", []),
            ("labels: {model: clip-vit-base-patch32}\ncontrol: {allow_sources: ['rtsp://*/']}", []),
            (ON + "streams: {a: {url: x, labels: []}}", []),
            ("labels: {model: clip-vit-base-patch32}\npersist: {dir: state}", []),  # to search by words
            ("labels: {model: clip-vit-base-patch32}", ["labels.texts: there are none, and no stream"]),
            ("labels: {texts: [cat, dog]}", ["labels.texts: guessing labels is off"]),
            ("streams: {a: {url: x, labels: [cat, dog]}}", ["streams.a.labels: guessing labels is off"]),
            ("labels: {model: clip-vit-base-patch32, texts: [cat]}", ["labels.texts: one text alone"]),
            (
                "labels: {model: clip-vit-base-patch32, texts: [cat, dog, cat]}",
                ["labels.texts: 'cat' stands twice"],
            ),
            (ON + "streams: {a: {url: x, labels: [cat]}}", ["streams.a.labels: one text alone"]),
            (ON.replace("}", ", template: a photo}"), ["labels.template: must hold {} once"]),
            (
                "labels: {model: /none, texts: [cat, dog], device: tpu}",
                ["there is no folder /none", "labels.device: 'tpu'"],
            ),
        ],
    )
    def test_settings(self, text: str, problems: list[str]) -> None:
        assert_problems(text, problems)

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (None, "config.json"),
            ("{", "config.json"),
            ('{"model_type": "bert"}', "of type 'bert'"),
            ("[]", "of type None"),
        ],
    )
    def test_folders(self, content: str | None, says: str, tmp_path: Path) -> None:
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        assert_problems(ON.replace("clip-vit-base-patch32", str(tmp_path)), [says])

    def test_without_transformers(self, folder: Path) -> None:
        """Nothing imports it unasked; where it is wanted and missing, one line names the remedy."""
        text = ON.replace("clip-vit-base-patch32", str(folder))
        script = (
            "import sys\n"
            "from tracker import config, errors\n"
            "from tracker.labels import check, labeller\n"
            "assert 'transformers' not in sys.modules\n"
            "sys.modules['transformers'] = None\n"
            "try:\n"
            f"    check.check(config.parse({text!r}))\n"
            "except errors.ConfigError as error:\n"
            "    print(error)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.stderr == ""
        assert done.stdout == "labels need the package transformers: pip install transformers\n"

    def test_without_transformers_when_it_is_loaded(
        self, settings: LabelsConfig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(ModelError, match="pip install transformers"):
            Clip.load(settings)


def assert_problems(text: str, problems: list[str]) -> None:
    try:
        check(config.parse(text))
        found = []
    except ConfigError as error:
        found = error.problems
    assert len(found) == len(problems), found
    for expected, problem in zip(problems, found, strict=True):
        assert expected in problem
