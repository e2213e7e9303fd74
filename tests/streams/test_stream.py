"""A stream on files and folders: pace, loops, pauses, ends, faults. Cameras are in test_stream_live.py."""

import threading
import time
from itertools import pairwise

import pytest
from PIL import Image as Pil

from helpers import videos
from helpers.streams import Watched, running
from helpers.waiting import wait_until
from tracker.config import BufferConfig
from tracker.streams.pacing import MAX_GAP_S, Pacer


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Twenty frames at 20 frames/s: one second."""
    return videos.write(tmp_path_factory.mktemp("clips") / "clip.mp4", videos.moving(20), fps=20, crf="1")


def test_every_frame_then_the_end(clip):
    with running(clip, pace="all") as cam:
        cam.wait_event("stream_ended")
        assert cam.names() == ["stream_live", "stream_ended"]
        assert [frame.index for frame in cam.frames] == list(range(20))
        assert [videos.number_of(frame.image.y_hw) for frame in cam.frames] == list(range(20))
        stream = cam.stream
        assert (stream.state, stream.error, stream.size_wh, stream.fps) == ("ended", None, (64, 48), 20.0)
        assert (stream.decoded, stream.corrupt, stream.reconnects, stream.epoch) == (20, 0, 0, 0)
        assert stream.buffer.newest().index == 19  # still there to look at


def test_pace_all_waits_for_the_consumer(clip):
    with running(clip, pace="all", consume=False) as cam:
        cam.wait_frames(1)
        time.sleep(0.3)  # long enough to have run through the whole file
        assert len(cam.frames) == 1
        for index in range(5):
            cam.stream.buffer.consumed(index)
            cam.wait_frames(index + 2)
        time.sleep(0.1)
        assert len(cam.frames) == 6


def test_pace_all_loses_nothing_to_a_small_buffer(clip):
    with running(clip, pace="all", consume=False, buffer=BufferConfig(seconds=0.001, mib=0.001)) as cam:
        seen = []
        while len(seen) < 20:
            cam.wait_frames(len(seen) + 1)
            seen += [frame.index for frame in cam.stream.buffer.since(seen[-1] if seen else -1)]
            cam.stream.buffer.consumed(seen[-1])
        assert seen == list(range(20))


def test_pace_real_plays_at_the_files_rate(clip):
    with running(clip, pace="real", consume=False) as cam:
        cam.wait_event("stream_ended")
    took_s = (cam.frames[-1].mono_ns - cam.frames[0].mono_ns) / 1e9
    assert took_s >= 0.9  # 19 intervals of 50 ms; later only on a busy machine
    assert min(b.mono_ns - a.mono_ns for a, b in pairwise(cam.frames)) >= 0
    assert [frame.index for frame in cam.frames] == list(range(20))


def test_loops_are_discontinuities_and_indices_go_on(clip):
    with running(clip, pace="all", loop=True) as cam:
        cam.wait_frames(61)
        cam.stream.pause()
    frames = cam.frames[:61]
    assert [frame.index for frame in frames] == list(range(61))
    assert [frame.epoch for frame in frames] == [0] * 20 + [1] * 20 + [2] * 20 + [3]
    assert [frame.pts for frame in frames[:20]] == [frame.pts for frame in frames[20:40]]
    assert cam.names() == ["stream_live", "stream_paused"]
    assert cam.stream.reconnects == 0


def test_a_paused_file_stays_where_it_is(clip):
    with running(clip, pace="real") as cam:
        cam.wait_frames(3)
        cam.stream.pause()
        assert cam.stream.state == "paused"
        time.sleep(0.2)
        count = len(cam.frames)
        assert count <= 5
        time.sleep(0.3)
        assert len(cam.frames) == count
        cam.stream.resume()
        cam.wait_event("stream_ended")
    assert [frame.index for frame in cam.frames] == list(range(20))
    assert {frame.epoch for frame in cam.frames} == {0}
    assert cam.names() == ["stream_live", "stream_paused", "stream_live", "stream_ended"]


def test_resume_plays_an_ended_file_again(clip):
    with running(clip, pace="all") as cam:
        cam.wait_event("stream_ended")
        cam.stream.resume()
        cam.wait_event("stream_ended", count=2)
    assert [frame.index for frame in cam.frames] == list(range(40))
    assert [frame.epoch for frame in cam.frames] == [0] * 20 + [1] * 20


def test_stop_is_quick_in_every_state(clip, tmp_path):
    for settings in (
        {"pace": "real"},
        {"pace": "all", "consume": False},
        {"pace": "real", "fps": 0.1},
    ):
        with running(clip, **settings) as cam:
            cam.wait_frames(1)
            started_s = time.monotonic()
            assert cam.stream.stop(timeout_s=10)
            assert time.monotonic() - started_s < 5
    with running(tmp_path / "missing.mp4") as cam:
        cam.wait_event("stream_failed")
        assert cam.stream.stop(timeout_s=10)


def test_a_stopped_stream_that_never_started():
    assert Watched("x.mp4").stream.stop(timeout_s=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "missing.mp4"}, "missing.mp4: no such file"),
        ({"url": "nosuch://host/x"}, "FFmpeg knows no such protocol"),
        ({"url": "rtsp://127.0.0.1/x", "password_env": "NOT_SET_ANYWHERE"}, "no variable NOT_SET_ANYWHERE"),
        ({"url": "x.mp4", "format": "nosuchformat"}, "FFmpeg has no input format"),
    ],
)
def test_what_can_never_work_fails_once_and_can_be_resumed(settings, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with running(settings.pop("url"), **settings) as cam:
        details = cam.wait_event("stream_failed")
        assert words in details["error"]
        assert (cam.stream.state, cam.stream.error) == ("failed", details["error"])
        cam.stream.resume()
        cam.wait_event("stream_failed", count=2)
        assert cam.frames == []


def test_a_failed_file_that_was_mended_plays_after_resume(clip, tmp_path):
    path = tmp_path / "late.mp4"
    with running(path, pace="all") as cam:
        cam.wait_event("stream_failed")
        path.write_bytes(clip.read_bytes())
        cam.stream.resume()
        cam.wait_event("stream_ended")
        assert cam.stream.error is None
    assert len(cam.frames) == 20


def test_a_size_change_is_a_discontinuity_with_an_event(tmp_path):
    sizes = [(64, 48), (32, 24), (64, 48)]
    parts = [videos.write(tmp_path / f"{i}.h264", videos.moving(4, size)) for i, size in enumerate(sizes)]
    path = tmp_path / "all.h264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with running(path, pace="all") as cam:
        cam.wait_event("stream_ended")
    assert [(frame.size_wh, frame.epoch) for frame in cam.frames] == [
        (size, epoch) for epoch, size in enumerate(sizes) for _ in range(4)
    ]
    resized = [details["size"] for event, details in cam.events if event == "stream_resized"]
    assert resized == [[32, 24], [64, 48]]


def test_a_folder_streams_with_its_names(tmp_path):
    for i in range(4):
        Pil.new("RGB", (8, 6), (i, 0, 0)).save(tmp_path / f"{i:05}.png")
    with running(tmp_path, pace="real", fps=50) as cam:
        cam.wait_event("stream_ended")
        assert cam.stream.fps == 50
    assert [frame.name for frame in cam.frames] == [f"{i:05}.png" for i in range(4)]
    assert [frame.pts for frame in cam.frames] == pytest.approx([0, 0.02, 0.04, 0.06])


def test_a_bug_in_the_consumer_is_said_and_does_not_kill_silently(clip, caplog):
    password = f"{12345 * 67}"  # so that it is not in the traceback's source lines

    def broken(_):
        raise KeyError(f"rtsp://user:{password}@host")

    cam = Watched(str(clip))
    cam.stream._on_frame = broken
    cam.stream.start()
    details = cam.wait_event("stream_failed")
    assert cam.stream.stop(timeout_s=10)
    assert details["error"] == "internal error: KeyError"
    assert "in broken" in caplog.text
    assert password not in caplog.text


def test_many_streams_share_nothing(clip):
    cams = [Watched(str(clip), pace="all", loop=True) for _ in range(6)]
    for cam in cams:
        cam.stream.start()
    for cam in cams:
        cam.wait_frames(45)
    cams[0].stream.pause()
    for cam in cams[1:]:
        cam.wait_frames(len(cam.frames) + 20)
        cam.stream.stop(timeout_s=0)
    for cam in cams:
        assert cam.stream.stop(timeout_s=30)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("source-")]
    for cam in cams:
        assert [frame.index for frame in cam.frames] == list(range(len(cam.frames)))


def test_pacer_follows_timestamps_loops_and_gaps(monkeypatch):
    now_ns = 10**12
    monkeypatch.setattr(time, "monotonic_ns", lambda: now_ns)
    pacer = Pacer()
    due_s = [
        (pacer.next_ns(pts, 0.1) - now_ns) / 1e9 for pts in (0, 0.1, 0.3, 0.0, 0.1, None, 99, 99 + MAX_GAP_S + 1)
    ]
    assert due_s == pytest.approx([0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


def test_pacer_does_not_chase_what_is_long_past(monkeypatch):
    clock = {"ns": 10**12}
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock["ns"])
    pacer = Pacer()
    pacer.next_ns(0.0, 0.1)
    clock["ns"] += 500_000_000
    assert pacer.next_ns(0.1, 0.1) < clock["ns"]  # half a second late: catches up
    clock["ns"] += 5_000_000_000
    assert pacer.next_ns(0.2, 0.1) == clock["ns"]  # five: goes on from here


def test_a_bug_in_saying_that_it_failed_costs_that_stream_alone(clip):
    """The thread lives on: the stream is failed, and can be resumed."""
    with running(clip, pace="real") as cam:
        cam.wait_event("stream_ended")
        say, broken = cam.stream._on_event, [True, True]

        def fail_twice(*args):
            if broken:
                broken.pop()
                raise RuntimeError("a bug")
            say(*args)

        cam.stream._on_event = fail_twice
        cam.stream.resume()
        wait_until(lambda: cam.stream.state == "failed")
        assert cam.stream.error == "internal error: RuntimeError"
        cam.stream.resume()
        cam.wait_event("stream_ended", count=2)


def test_a_bug_in_the_watch_for_stalls_costs_that_stream_alone(clip, monkeypatch):
    with running(clip, pace="real", loop=True) as cam:
        monkeypatch.setattr(cam.stream, "_look_for_stall", raise_a_bug)
        thread = threading.Thread(target=cam.stream._watch)
        thread.start()
        wait_until(lambda: cam.stream.state == "failed")
        assert thread.is_alive()
    thread.join(60)
    assert not thread.is_alive()


def raise_a_bug():
    raise RuntimeError("a bug")
