"""Cameras with faults: a stream is live only while its video track yields pictures, and can always be stopped."""

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from helpers import cameras, videos
from helpers.faulty_camera import FPS, faulty_camera
from helpers.streams import Watched, running
from tracker.config import StreamConfig
from tracker.errors import NoFrame, SourceError
from tracker.streams.sources import open_source

TESTS = Path(__file__).parents[1]


@pytest.fixture
def impatient(monkeypatch):
    """Time-outs of a second or less, so that they can be waited for."""
    monkeypatch.setattr("tracker.streams.decoder.OPEN_TIMEOUT_S", 1.0)
    monkeypatch.setattr("tracker.streams.stream.STALL_S", 0.5)
    monkeypatch.setattr("tracker.streams.course.BACK_OFF_S", (0.05, 0.1))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("options", [{}, {"allowed_media_types": "video+audio"}])
def test_a_camera_whose_video_stops_is_tried_again_though_its_sound_goes_on(options):
    with (
        faulty_camera(audio=True, video_stops_after=8) as camera,
        running(camera.url, options=options) as cam,
    ):
        cam.wait_event("stream_live")
        cam.wait_event("stream_stalled")
        error = cam.wait_event("stream_down")["error"]
        assert any(words in error for words in ("no answer within 1 s", "sends data, but no picture for 1 s"))
        cam.wait_event("stream_live", count=2)
        assert cam.stream.reconnects >= 1


def test_a_video_track_that_never_sends_is_passed_over():
    with faulty_camera(mute_track_first=True) as camera, running(camera.url) as cam:
        cam.wait_frames(5)
        assert cam.names() == ["stream_live"]


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_answers_and_sends_nothing_is_said():
    with faulty_camera(video_stops_after=0) as camera, running(camera.url) as cam:
        error = cam.wait_event("stream_down")["error"]
    assert error == f"{camera.url}: it answers, but sent no picture within 1 s"


def test_a_camera_that_answers_and_sends_nothing_is_not_waited_for_without_end():
    with faulty_camera(video_stops_after=0) as camera, pytest.raises(SourceError, match="sent no picture"):
        open_source(StreamConfig(url=camera.url))


@pytest.mark.usefixtures("impatient")
def test_a_camera_that_never_sends_a_picture_is_said_and_can_be_stopped():
    with (
        faulty_camera(audio=True, video_stops_after=0) as camera,
        running(camera.url, options={"allowed_media_types": "video+audio"}) as cam,
    ):
        assert camera.url in cam.wait_event("stream_down")["error"]
        assert cam.stream.state == "connecting"


def test_a_camera_that_refuses_its_audio_back_channel_gives_its_video():
    with faulty_camera(refuses_back_channel=True) as camera, running(camera.url) as cam:
        cam.wait_frames(5)
        assert cam.names() == ["stream_live"]


@pytest.mark.parametrize(
    ("picture", "slice_", "own_parameters"),
    [(5, 0, False), (5, -1, False), (10, -1, False), (10, 0, True), (10, 1, True), (10, -1, True)],
)
def test_a_slice_that_is_lost_on_the_way_costs_its_picture_alone(picture, slice_, own_parameters):
    """The decoder once waited for a lost last slice for ever, and passed over others without a word."""
    lost = {"lost_slice": (picture, slice_), "own_parameters": own_parameters}
    with faulty_camera(keyframe_every=10, slices=3, **lost) as camera, running(camera.url) as cam:
        cam.wait_frames(30)
        assert cam.names() == ["stream_live"]
    assert [frame.index for frame in cam.frames if frame.corrupt] == [picture]
    after = [frame for frame in cam.frames if frame.index > picture + 10]  # from the next keyframe on
    assert numbers(after) == [frame.index % 20 for frame in after]


def test_keyframes_whose_slices_carry_their_own_parameters_come_whole():
    with faulty_camera(keyframe_every=5, slices=3, own_parameters=True) as camera, running(camera.url) as cam:
        cam.wait_frames(20)
    assert not any(frame.corrupt for frame in cam.frames)
    assert numbers(cam.frames) == [frame.index % 20 for frame in cam.frames]


def numbers(frames):
    return [videos.number_of(frame.image.y_hw) for frame in frames]


def test_fps_goes_by_arrival_where_the_cameras_clock_stands_still():
    with faulty_camera(clock_stands_still=True) as camera, running(camera.url, fps=5) as cam:
        cam.wait_frames(6)
        assert cam.names() == ["stream_live"]
        spans_s = [(b.mono_ns - a.mono_ns) / 1e9 for a, b in zip(cam.frames, cam.frames[1:], strict=False)]
        assert sum(spans_s) / len(spans_s) > 0.9 / 5


@pytest.mark.usefixtures("impatient")
def test_pictures_that_fps_leaves_out_keep_a_stream_live_and_let_it_be_stopped():
    with faulty_camera() as camera, running(camera.url, fps=0.05) as cam:
        cam.wait_event("stream_live")
        cam.wait(lambda: len(cam.stream._arrived) > FPS)  # a second of them: twice the time of a stall
        assert (cam.stream.state, len(cam.frames)) == ("live", 1)
        cam.stream.pause()
        assert cam.stream.stop(timeout_s=10)


@pytest.mark.usefixtures("impatient")
def test_stop_ends_a_stream_that_waits_inside_ffmpeg_within_its_time_out():
    with cameras.silent_peer() as port:
        cam = Watched(f"rtsp://127.0.0.1:{port}/live")
        cam.stream.start()
        cam.wait_event("stream_down")  # it opens again and again
        assert cam.stream.stop(timeout_s=10)


def test_a_decoder_that_is_inside_ffmpeg_does_not_hold_the_process():
    with cameras.silent_peer() as port:
        script = f"""
            import time
            from helpers.streams import Watched
            from tracker.streams import decoder
            decoder.OPEN_TIMEOUT_S = 600
            cam = Watched("rtsp://127.0.0.1:{port}/live")
            cam.stream.start()
            while cam.stream._threads[0].ident is None:
                pass
            time.sleep(0.5)
            print(cam.stream.stop(timeout_s=0.1))
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], cwd=TESTS, capture_output=True, text=True, timeout=120
        )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@pytest.mark.usefixtures("impatient")
def test_every_change_of_state_is_logged_once(caplog):
    caplog.set_level(logging.INFO, "tracker.streams.course")
    with faulty_camera(video_stops_after=8) as camera, running(camera.url) as cam:
        cam.wait_event("stream_live", count=2)
        cam.stream.pause()
    lines = [record.getMessage() for record in caplog.records]
    states = [line.removeprefix("stream cam: ").partition(":")[0] for line in lines]
    assert states == ["live", "stalled", "connecting", "live", "paused"]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "WARNING", "INFO", "INFO"]


def test_a_stream_that_fails_for_good_is_logged(tmp_path, caplog):
    with running(tmp_path / "missing.mp4") as cam:
        error = cam.wait_event("stream_failed")["error"]
    assert [record.getMessage() for record in caplog.records] == [f"stream cam: failed: {error}"]


def test_no_frame_says_why_there_is_none(tmp_path):
    with running(tmp_path / "missing.mp4") as cam:
        cam.wait_event("stream_failed")
        with pytest.raises(NoFrame, match=r"^nothing was decoded .* \(failed: .*missing\.mp4: no such file"):
            cam.stream.buffer.newest()


def test_a_first_frame_without_a_time_is_kept(tmp_path):
    """Raw H.264 has no times at all: `fps` says its rate, and leaves nothing out."""
    path = videos.write(tmp_path / "raw.h264", videos.moving(10))
    with running(path, pace="all", fps=5) as cam:
        cam.wait_event("stream_ended")
        assert cam.stream.fps == 5
    assert [frame.pts for frame in cam.frames] == [None] * 10
    assert [videos.number_of(frame.image.y_hw) for frame in cam.frames] == list(range(10))


def two_tracks(path: Path, sizes_wh: list[tuple[int, int]], default: int | None) -> Path:
    """A file with one video track of each size."""
    with av.open(str(path), "w") as container:
        tracks = []
        for number, (w, h) in enumerate(sizes_wh):
            track = container.add_stream("libx264", rate=10)
            track.width, track.height, track.pix_fmt = w, h, "yuv420p"
            track.disposition = Disposition.default if number == default else Disposition(0)
            tracks.append(track)
        for index in range(4):
            for track in tracks:
                pixels_hwc = np.full((track.height, track.width, 3), 40 * index, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels_hwc, "rgb24")
                frame.pts = index
                container.mux(track.encode(frame))
        for track in tracks:
            container.mux(track.encode(None))
    return path


@pytest.mark.parametrize(
    ("default", "shown_wh"),
    [(None, (64, 48)), (0, (32, 24)), (1, (64, 48)), (2, (48, 32))],
)
def test_of_several_video_tracks_the_default_else_the_largest_is_shown(tmp_path, default, shown_wh):
    path = two_tracks(tmp_path / "a.mkv", [(32, 24), (64, 48), (48, 32)], default)
    with running(path, pace="all") as cam:
        cam.wait_event("stream_ended")
    assert {frame.size_wh for frame in cam.frames} == {shown_wh}
    assert len(cam.frames) == 4


def test_of_an_hls_playlist_the_largest_variant_is_shown(tmp_path):
    playlist = ["#EXTM3U"]
    for name, size_wh, rate in (("low", (32, 24), 100_000), ("high", (64, 48), 900_000)):
        videos.write(tmp_path / f"{name}.ts", videos.moving(10, size_wh), fps=10)
        (tmp_path / f"{name}.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1.0,\n{name}.ts\n#EXT-X-ENDLIST\n"
        )
        playlist += [f"#EXT-X-STREAM-INF:BANDWIDTH={rate},RESOLUTION={size_wh[0]}x{size_wh[1]}", f"{name}.m3u8"]
    (tmp_path / "master.m3u8").write_text("\n".join(playlist) + "\n")
    with running(tmp_path / "master.m3u8", pace="all") as cam:
        cam.wait_event("stream_ended")
    assert {frame.size_wh for frame in cam.frames} == {(64, 48)}
