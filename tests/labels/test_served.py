"""Guesses beside a whole daemon."""

import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest

from helpers.clips import SIDE, TEXTS
from helpers.tracking import blobs, configuration, serving, wait_until
from tracker.config import LabelsConfig
from tracker.engine.clip import Clip
from tracker.images.imaging import decode
from tracker.labels.crops import masked_crop
from tracker.labels.labeller import guess_of
from tracker.masks.rle import rle_decode


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return blobs(tmp_path_factory.mktemp("video") / "blobs.mp4", frames=20)


def arrived(listed: dict[str, Any], frame: int) -> bool:
    (record,) = listed["objects"]
    return "guess" in record and record["frame"] == frame


class TestDaemon:
    def test_a_guess_arrives(self, video: Path, settings: LabelsConfig, clip: Clip) -> None:
        """On the last frame of a file, so that nothing moves between the guess and what it is compared with."""
        served = configuration(
            labels={**msgspec.to_builtins(settings), "every_s": 0.2},
            publish={"masks": "rle"},
            streams={"cam": {"url": str(video), "pace": "all"}},
        )
        with serving(served) as talk:
            talk.wait_for_frame(19)
            added = talk.ask("objects.add", stream="cam", points=[[120, 90]], label="mine")
            assert "guess" not in added
            wait_until(lambda: arrived(talk.ask("objects.list"), frame=19))
            (record,) = talk.ask("objects.list")["objects"]
            picture = decode(talk.ask("frames.get", stream="cam", frame=record["frame"], format="png")["data"])
            talk.ask("objects.update", stream="cam", object=1, label=None)
            drawn = talk.ask("frames.get", stream="cam", frame=record["frame"], format="png", overlay=True)["data"]
            talk.ask("objects.update", stream="cam", object=1, label=record["guess"]["label"])
            named = talk.ask("frames.get", stream="cam", frame=record["frame"], format="png", overlay=True)["data"]
        crop = masked_crop(picture, rle_decode(record["mask"]["counts"], tuple(record["mask"]["size"])), SIDE)
        assert crop is not None
        expected = guess_of(TEXTS, clip.likely([crop], [TEXTS])[0], 0)
        guess = record["guess"]
        assert (record["label"], guess["label"]) == ("mine", expected.label)
        assert drawn == named  # where there is no label, the guess is written
        assert guess["confidence"] == pytest.approx(expected.confidence, abs=0.01)
        assert [text for text, _ in guess["runners_up"]] == [text for text, _ in expected.runners_up]

    def test_it_is_published_too(self, video: Path, settings: LabelsConfig) -> None:
        streams = {"cam": {"url": str(video), "loop": True, "labels": ["one", "two"]}}
        with serving(configuration(labels=msgspec.to_builtins(settings), streams=streams)) as talk:
            talk.subscribe("tracks/cam/")
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[[120, 90]])
            message = talk.receive_until(lambda m: m["objects"] and "guess" in m["objects"][0])
            guess = message["objects"][0]["guess"]
            assert {guess["label"], guess["runners_up"][0][0]} == {"one", "two"}
            assert guess["confidence"] + guess["runners_up"][0][1] == pytest.approx(1, abs=1e-3)

    def test_a_model_that_is_not_there_is_told_and_tracking_goes_on(
        self, video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        streams = {"cam": {"url": str(video), "loop": True}}
        wrong = {"model": str(tmp_path / "none"), "texts": ["cat", "dog"]}
        with caplog.at_level(logging.ERROR), serving(configuration(labels=wrong, streams=streams)) as talk:
            talk.wait_for_frame(0)
            talk.ask("objects.add", stream="cam", points=[[120, 90]])
            wait_until(
                lambda: "labelling is off, tracking goes on: labels.model: there is no folder" in caplog.text
            )
            age = talk.ask("objects.list")["objects"][0]["age"]
            wait_until(lambda: talk.ask("objects.list")["objects"][0]["age"] > age)
            assert "guess" not in talk.ask("objects.list")["objects"][0]

    def test_texts_of_a_new_stream_are_refused_where_there_is_no_model(self, video: Path) -> None:
        with serving(configuration(control={"allow_sources": [str(video)]})) as talk:
            code, message = talk.refused("streams.add", stream="cam", url=str(video), labels=["cat", "dog"])
            assert (code, message[:32]) == ("bad_request", "labels: guessing labels is off; ")
            assert talk.ask("streams.list") == {"streams": []}
