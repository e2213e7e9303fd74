"""Files and folders: what comes out is what was put in, and what cannot be read is refused in clear words."""

import gc
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from av.bitstream import BitStreamFilterContext
from av.stream import Disposition
from PIL import Image as Pil

from helpers import videos
from tracker.config import StreamConfig
from tracker.errors import SourceError
from tracker.images import imaging
from tracker.images.types import I420, Colour, Rgb
from tracker.images.video_writer import VideoWriter
from tracker.streams import decoder, sources
from tracker.streams.allowlist import allowed
from tracker.streams.pacing import RateCap

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "clips"
GREEN_709 = (173, 42, 26)  # pure green in BT.709, limited range


def test_every_frame_of_a_file_in_order(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(40), fps=20, crf="1")
    frames = list(sources.frames(path, stream="clip"))
    assert [videos.number_of(frame.image.y_hw) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.pts for frame in frames] == pytest.approx([i / 20 for i in range(40)])
    assert {(f.stream, f.epoch, f.size_wh, f.corrupt, f.camera_time) for f in frames} == {
        ("clip", 0, (64, 48), False, None)
    }
    assert all(a.mono_ns < b.mono_ns for a, b in pairwise(frames))


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_the_times_of_an_avi_rise_also_with_b_frames(tmp_path, b_frames):
    """AVI numbers packets in the order of decoding: the second picture may take its neighbour's time."""
    path = videos.write(tmp_path / "a.avi", videos.moving(40), crf="1", bf=b_frames, b_strategy="0")
    frames = list(sources.frames(path))
    assert [videos.number_of(frame.image.y_hw) for frame in frames] == list(range(40))
    assert [frame.pts for frame in frames[2:]] == pytest.approx([frames[2].pts + i / 25 for i in range(38)])


def test_what_a_file_says_of_itself(tmp_path):
    with sources.open_path(videos.write(tmp_path / "a.mp4", videos.moving(7), fps=10)) as clip:
        assert (clip.fps, clip.estimate, clip.size_wh, clip.live) == (10.0, 7, (64, 48), False)
        assert clip.most_frames() == 7
    with sources.open_path(videos.write(tmp_path / "a.mkv", videos.moving(7), codec="ffv1", fps=10)) as clip:
        assert clip.estimate == 7  # no frame count in Matroska: from the duration


@pytest.mark.parametrize(
    ("tag", "full_range", "expected"),
    [
        (1, False, Colour("bt709", False)),
        (1, True, Colour("bt709", True)),
        (6, False, Colour("bt601", False)),
        (5, True, Colour("bt601", True)),
        (9, False, Colour("bt2020", False)),
        (2, None, Colour("bt601", False)),  # untagged: as FFmpeg's own converter
    ],
)
@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("libx264", "yuv420p", ".mp4"),
        ("ffv1", "yuv420p10le", ".mkv"),
        ("ffv1", "yuv422p10le", ".mkv"),
        ("ffv1", "yuv444p", ".mkv"),
    ],
)
def test_matrix_range_and_depth(tmp_path, codec, pix_fmt, suffix, tag, full_range, expected):
    yuv = (90, 100, 170)
    options = {"qp": "0"} if codec == "libx264" else {}
    path = videos.write(
        tmp_path / f"a{suffix}", [videos.flat(yuv, (16, 16))] * 2, codec, pix_fmt, 25, tag, full_range, **options
    )
    image = next(iter(sources.frames(path))).image
    assert image.colour == expected
    for plane, value in zip((image.y_hw, image.u_hw, image.v_hw), yuv, strict=True):
        assert plane.dtype == np.uint8
        assert np.abs(plane.astype(int) - value).max() <= 1


def test_known_colours_through_a_real_decoder(tmp_path):
    path = videos.write(tmp_path / "a.mp4", [videos.flat(GREEN_709, (32, 32))], colorspace=1, qp="0")
    rgb_hwc = imaging.to_rgb(next(iter(sources.frames(path))).image)
    assert np.abs(rgb_hwc.astype(int) - (0, 255, 0)).max() <= 2


def test_motion_jpeg_is_full_range(tmp_path):
    path = videos.write(
        tmp_path / "a.avi", [videos.flat((255, 128, 128), (32, 32))], "mjpeg", "yuvj420p", full_range=True
    )
    image = next(iter(sources.frames(path))).image
    assert image.colour.full_range
    assert imaging.to_rgb(image).min() >= 253


@pytest.mark.parametrize(("pix_fmt", "colour"), [("bgr0", (220, 60, 30)), ("gray", (77, 77, 77))])
def test_rgb_and_grey_video(tmp_path, pix_fmt, colour):
    import av

    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pix_fmt
        pixels_hwc = np.full((16, 32, 3), colour, np.uint8)
        if pix_fmt == "gray":
            frame = av.VideoFrame.from_ndarray(pixels_hwc[..., 0].copy(), format="gray")
        else:
            frame = av.VideoFrame.from_ndarray(pixels_hwc, format="rgb24").reformat(format=pix_fmt)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    rgb_hwc = imaging.to_rgb(next(iter(sources.frames(path))).image)
    assert np.abs(rgb_hwc.astype(int) - colour).max() <= 3


@pytest.mark.parametrize("size_wh", [(35, 21), (34, 21), (35, 22), (1, 1)])
def test_odd_sizes(tmp_path, size_wh):
    w, h = size_wh
    planes = videos.flat((100, 90, 200), size_wh)
    planes[0][-1, -1] = 180
    path = videos.write(tmp_path / "a.mkv", [planes] * 2, "ffv1")
    image = next(iter(sources.frames(path))).image
    assert image.size_wh == size_wh
    assert image.u_hw.shape == image.v_hw.shape == ((h + 1) // 2, (w + 1) // 2)
    for got, put in zip((image.y_hw, image.u_hw, image.v_hw), planes, strict=True):
        assert np.array_equal(got, put)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied(tmp_path, degrees):
    planes = videos.flat((50, 128, 128), (64, 32))
    planes[0][:16, :16] = 200  # top left
    planes[1][:8, :8] = 200
    path = videos.write(tmp_path / "a.mp4", [planes] * 2, qp="0")
    videos.rotate_mp4(path, degrees)
    with sources.open_path(path) as clip:
        image = next(iter(clip)).image
        assert clip.size_wh == image.size_wh == ((64, 32) if degrees == 180 else (32, 64))
    turns = -degrees // 90
    assert np.array_equal(image.y_hw, np.rot90(planes[0], turns))
    assert np.array_equal(image.u_hw, np.rot90(planes[1], turns))


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda plane: plane[:, ::-1]),
        ((1, 0, 0, -1), lambda plane: plane[::-1]),
        ((0, 1, 1, 0), lambda plane: plane.T),
        ((0, -1, -1, 0), lambda plane: plane[::-1, ::-1].T),
    ],
)
def test_mirrors_are_applied(tmp_path, matrix, shown):
    planes = videos.flat((50, 128, 128), (64, 32))
    planes[0][:8, :16] = 200  # top left
    planes[1][:4, :8] = 200
    path = videos.write(tmp_path / "a.mp4", [planes] * 2, qp="0")
    videos.set_matrix(path, matrix)
    image = next(iter(sources.frames(path))).image
    assert np.array_equal(image.y_hw, shown(planes[0]))
    assert np.array_equal(image.u_hw, shown(planes[1]))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_motion_jpeg_is_turned_as_its_exif_says(tmp_path, orientation):
    """PyAV knows no EXIF, and hands out nothing of what FFmpeg says beside a picture that has it."""
    grey_hw = np.full((32, 64), 50, np.uint8)
    grey_hw[:16, :16] = 200
    exif = Pil.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.mjpeg"
    Pil.fromarray(grey_hw).convert("RGB").save(path, "JPEG", exif=exif, quality=95)
    image = next(iter(sources.frames(path))).image
    expected_hw = np.rot90(grey_hw, {1: 0, 3: 2, 6: -1, 8: 1}[orientation])
    assert image.y_hw.shape == expected_hw.shape
    assert np.abs(image.y_hw.astype(int) - expected_hw).mean() < 3


def test_palette_video_and_gifs_are_as_bright_as_pil_shows_them(tmp_path):
    picture = Pil.new("RGB", (32, 24), (60, 120, 200))
    picture.paste((220, 60, 30), (0, 0, 16, 12))
    picture.save(tmp_path / "a.gif", save_all=True, append_images=[picture.rotate(180)])
    palette_video(tmp_path / "a.avi", picture)
    for name in ("a.gif", "a.avi"):
        rgb_hwc = imaging.to_rgb(next(iter(sources.frames(tmp_path / name))).image)
        for at in ((0, 0), (0, -1), (-1, 0), (-1, -1)):  # away from edges, where chroma is of half the size
            assert np.abs(rgb_hwc[at].astype(int) - np.asarray(picture)[at]).max() <= 3, name


def palette_video(path: Path, picture: Pil.Image) -> None:
    """Raw pixels of 8 bits that are numbers of colours."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=25)
        stream.width, stream.height, stream.pix_fmt = *picture.size, "pal8"
        indexed = picture.quantize(8)
        colours = np.zeros((256, 4), np.uint8)
        listed = np.array(indexed.getpalette(), np.uint8).reshape(-1, 3)
        colours[: len(listed)] = np.column_stack([np.full(len(listed), 255, np.uint8), listed])
        pixels_and_colours: Any = (np.asarray(indexed), colours)
        frame = av.VideoFrame.from_ndarray(pixels_and_colours, format="pal8")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_picture_is_cropped_as_its_video_says(tmp_path):
    """To the pixel, also on its left side."""
    import av

    whole = videos.write(tmp_path / "whole.mp4", videos.moving(3), crf="1")
    with av.open(str(whole)) as given, av.open(str(tmp_path / "cropped.mp4"), "w") as cropped:
        track = cropped.add_stream_from_template(given.streams.video[0])
        crop = BitStreamFilterContext(
            "h264_metadata=crop_left=6:crop_top=2:crop_right=8", given.streams.video[0], track
        )
        for packet in given.demux(video=0):
            for filtered in crop.filter(None if packet.dts is None else packet):
                filtered.stream = track
                cropped.mux(filtered)
    for before, after in zip(sources.frames(whole), sources.frames(tmp_path / "cropped.mp4"), strict=True):
        assert np.array_equal(after.image.y_hw, before.image.y_hw[2:, 6:-8])
        assert np.array_equal(after.image.u_hw, before.image.u_hw[1:, 3:-4])


@pytest.mark.parametrize("ending", ["mp4", "mov"])
def test_a_recording_that_was_cut_off_before_its_index_is_called_that(tmp_path, ending):
    path = videos.write(tmp_path / f"whole.{ending}", [videos.flat((90, 100, 170), (64, 32))] * 9)
    whole = path.read_bytes()
    index = whole.rfind(b"moov") - 4
    for cut in (index, index // 2, index + 100):
        path.write_bytes(whole[:cut])
        with pytest.raises(SourceError, match=r"without its index \(moov\).* cut off"):
            sources.open_path(path)


@pytest.mark.parametrize(
    "first", [b"\0\0\0\x18ftypheic" + bytes(12) + b"\0\0\0\x08meta", bytes(64), b"ftyp", b"text " * 20]
)
def test_what_is_no_film_is_not_called_a_cut_off_one(tmp_path, first):
    path = tmp_path / "a.mp4"
    path.write_bytes(first)
    with pytest.raises(SourceError) as refused:
        sources.open_path(path)
    assert "moov" not in str(refused.value)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_shape_of_a_pixel_is_that_of_the_upright_picture(tmp_path, transposed):
    import av

    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        container.mux(stream.encode(videos.frame_of(videos.flat((90, 128, 128), (64, 32)))))
        container.mux(stream.encode(None))
    if transposed:
        videos.rotate_mp4(path, 90)
    with sources.open_path(path) as clip:
        assert clip.pixel_aspect == (Fraction(1, 2) if transposed else 2)
        assert clip.size_wh == ((32, 64) if transposed else (64, 32))  # the picture stays as decoded


@pytest.mark.parametrize("transposed", [False, True])
def test_the_shape_of_a_pixel_is_that_of_the_decode_size(tmp_path, transposed):
    with VideoWriter(tmp_path / "a.mp4", (64, 32), 25, Fraction(2)) as video:
        video.write(np.zeros((32, 64, 3), np.uint8))
    if transposed:
        videos.rotate_mp4(tmp_path / "a.mp4", 90)
    size = (32, 128) if transposed else (128, 32)
    for wanted, aspect in ((size, 1), ((64, 64), Fraction(1, 4) if transposed else 4)):
        with sources.open_source(StreamConfig(url=str(tmp_path / "a.mp4"), size=wanted)) as clip:
            assert clip.pixel_aspect == aspect


@pytest.mark.parametrize("degrees", [None, 90])
def test_decode_size_is_that_of_the_upright_picture(tmp_path, degrees):
    path = videos.write(tmp_path / "a.mp4", [videos.flat((90, 100, 170), (64, 32))] * 2, qp="0")
    if degrees:
        videos.rotate_mp4(path, degrees)
    with sources.open_source(StreamConfig(url=str(path), size=(20, 30))) as clip:
        image = next(iter(clip)).image
    assert image.size_wh == (20, 30)
    assert np.abs(image.y_hw.astype(int) - 90).max() <= 1
    assert np.abs(image.v_hw.astype(int) - 170).max() <= 1


def test_a_size_change_in_a_file_is_followed(tmp_path):
    parts = []
    for size_wh in ((64, 48), (32, 24)):
        part = videos.write(tmp_path / f"{size_wh[0]}.h264", videos.moving(5, size_wh), qp="0")
        parts.append(part.read_bytes())
    path = tmp_path / "both.h264"
    path.write_bytes(b"".join(parts))
    sizes = [frame.size_wh for frame in sources.frames(path)]
    assert sizes == [(64, 48)] * 5 + [(32, 24)] * 5


@pytest.mark.parametrize(
    ("fps", "source_fps", "expected"),
    [(None, 30, 30), (15, 30, 15), (20, 30, 20), (10, 25, 10), (60, 30, 30), (1, 30, 1)],
)
def test_fps_cap_keeps_an_even_part(fps, source_fps, expected):
    cap = RateCap(fps)
    kept = [i for i in range(3 * source_fps) if cap.take(i / source_fps)]
    assert 0 <= len(kept) - 3 * expected <= 1
    gaps = {b - a for a, b in pairwise(kept)}
    assert max(gaps) - min(gaps) <= max(1, 0.1 * source_fps / expected)


def test_fps_cap_survives_a_clock_that_starts_anew():
    cap = RateCap(10)
    assert [cap.take(t) for t in (100.0, 100.05, 100.1, 0.0, 0.05, 0.1)] == [True, False, True, True, False, True]


def folder_of(path: Path, names: list[str], size_wh=(20, 10), mode: str = "RGB") -> Path:
    path.mkdir()
    for i, name in enumerate(names):
        Pil.new(mode, size_wh, i if mode == "L" else (i, 0, 0)).save(path / name)
    return path


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["00002.jpg", "00000.jpg", "00001.jpg"], ["00000.jpg", "00001.jpg", "00002.jpg"]),
        (["10.png", "9.png", "2.png"], ["2.png", "9.png", "10.png"]),
        (["b.PNG", "a.jpeg", "c.JPG"], ["a.jpeg", "b.PNG", "c.JPG"]),
        (["f_10.bmp", "f_9.tif", "f_1.webp"], ["f_1.webp", "f_9.tif", "f_10.bmp"]),
    ],
)
def test_folders_play_in_order_and_keep_names(tmp_path, names, expected):
    folder = folder_of(tmp_path / "in", names)
    (folder / "notes.txt").write_text("not a picture")
    frames = list(sources.frames(folder))
    assert [frame.name for frame in frames] == expected
    assert all(isinstance(frame.image, Rgb) for frame in frames)


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "I;16", "CMYK"])
def test_a_picture_by_itself_is_what_it_is_in_a_folder(tmp_path, mode):
    turned = Pil.Exif()
    turned[0x0112] = 6  # lay the camera on its side
    path = tmp_path / "0.tif"
    grey_hw = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30) * 100
    picture = Pil.fromarray(grey_hw)
    if mode != "I;16":
        picture = Pil.fromarray((grey_hw >> 8).astype(np.uint8)).convert(mode)
    picture.save(path, exif=turned)
    (alone,), (in_folder,) = sources.frames(path), sources.frames(tmp_path)
    assert alone.size_wh == in_folder.size_wh == (20, 30)
    np.testing.assert_array_equal(imaging.to_rgb(alone.image), imaging.to_rgb(in_folder.image))


def test_pipes_in_a_folder_are_passed_over(tmp_path):
    folder = folder_of(tmp_path / "pictures", ["0.png"])
    os.mkfifo(folder / "1.png")
    with sources.open_path(folder) as source:
        assert source.most_frames() == 1
        assert "1 file that is no picture is passed over (1.png)" in source.notice


def test_what_other_programs_leave_in_a_folder_is_passed_over_and_counted(tmp_path):
    folder = folder_of(tmp_path / "in", ["0.jpg", "1.jpg"])
    for name in ("._0.jpg", "Thumbs.db", ".DS_Store", "desktop.ini"):
        (folder / name).write_bytes(b"not a picture")
    with sources.open_path(folder) as source:
        assert source.most_frames() == 2
        assert source.notice is not None
        assert source.notice.endswith(
            "4 files that are no pictures are passed over (.DS_Store, ._0.jpg, Thumbs.db, …)"
        )


def test_two_pictures_of_one_name_are_refused_by_name(tmp_path):
    folder = folder_of(tmp_path / "in", ["0.png", "0.jpg", "1.png"])
    with pytest.raises(SourceError, match=r"0\.jpg and .*0\.png have one name"):
        sources.open_path(folder)


def test_a_video_that_says_it_is_huge_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "a.gif"
    side = struct.pack("<HH", 16000, 16000)
    picture = b"\x2c" + bytes(4) + side + b"\0" + b"\x02\x02\x4c\x01\0"
    path.write_bytes(b"GIF89a" + side + b"\x80\0\0" + bytes(6) + picture + b"\x3b")
    before = psutil.Process().memory_info().rss
    with pytest.raises(SourceError, match="pixels"):
        sources.open_path(path)
    assert psutil.Process().memory_info().rss - before < 100 * 2**20


def test_a_cut_off_mp4_gives_all_pictures_that_are_whole(tmp_path):
    options = {"movflags": "empty_moov+frag_keyframe+default_base_moof", "flush_packets": "1"}
    whole = fragmented(tmp_path / "whole.mp4", 60, options)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[:-5])  # in the last picture
    numbers = [videos.number_of(frame.image.y_hw) for frame in sources.frames(path)]
    assert numbers == list(range(59))


def fragmented(path: Path, count: int, options: dict[str, str]) -> bytes:
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index, planes in enumerate(videos.moving(count)):
            frame = videos.frame_of(planes)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    return data[: data.rindex(b"mfra") - 4] if b"mfra" in data else data


def test_folder_pixels_are_pils(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    noise_hwc = np.random.default_rng(3).integers(0, 256, (31, 41, 3), np.uint8)
    Pil.fromarray(noise_hwc).save(folder / "0.jpg", quality=90)
    Pil.fromarray(noise_hwc[..., 0]).save(folder / "1.png")
    jpeg, grey = (frame.image.rgb_hwc for frame in sources.frames(folder))
    assert np.array_equal(jpeg, np.asarray(Pil.open(folder / "0.jpg").convert("RGB")))
    assert np.array_equal(grey, np.repeat(noise_hwc[..., :1], 3, 2))


def test_folder_with_mixed_sizes(tmp_path):
    folder = folder_of(tmp_path / "in", ["0.png", "1.png"])
    Pil.new("RGB", (8, 6)).save(folder / "2.png")
    assert [frame.size_wh for frame in sources.frames(folder)] == [(20, 10), (20, 10), (8, 6)]
    with sources.open_source(StreamConfig(url=str(folder), size=(12, 12), fps=5)) as clip:
        assert (clip.most_frames(), clip.fps, clip.size_wh) == (3, 5, (12, 12))
        assert {picture.image.size_wh for picture in clip} == {(12, 12)}


@pytest.fixture
def broken(tmp_path):
    """A folder of things that are no video."""
    import av

    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    (tmp_path / "text.txt").write_text("hello\n" * 100)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mkv").write_bytes(np.random.default_rng(0).bytes(50_000))
    whole = videos.write(tmp_path / "whole.mp4", videos.moving(20)).read_bytes()
    (tmp_path / "headless.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "folder").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "0.png").write_text("not a picture")
    colours = [Pil.new("RGB", (32, 24), (40 * i, 0, 0)) for i in range(3)]
    for name in ("moving.webp", "moving.png"):
        colours[0].save(tmp_path / name, save_all=True, append_images=colours[1:])
    Pil.effect_noise((64, 48), 90).save(tmp_path / "half.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "half.jpg").read_bytes()[:-500])
    with av.open(str(tmp_path / "begun.mkv"), "w") as container:
        container.add_stream("mpeg4", rate=25, width=32, height=24)
        container.start_encoding()
    with av.open(str(tmp_path / "audio.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with av.open(str(tmp_path / "cover.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", width=32, height=24, pix_fmt="yuvj420p")
        cover.disposition = Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame(32, 24, "yuvj420p")))
        container.mux(cover.encode(None))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.mp4", "is not video that FFmpeg can read"),
        ("text.txt", "is text, not video"),
        ("empty.mp4", "is empty"),
        ("noise.mkv", "is not video that FFmpeg can read"),
        ("headless.mp4", "without its index"),
        ("begun.mkv", "(ends before any picture|holds no picture)"),
        ("moving.webp", "it is animated; make it a video or a folder of pictures"),
        ("moving.png", "it is animated; make it a video or a folder of pictures"),
        ("half.jpg", "is not a picture that can be read: image file is truncated"),
        ("audio.m4a", "holds no video, only audio"),
        ("cover.mp4", "holds no video, only a cover"),
        ("missing.mp4", "no such file"),
        ("folder", "has no pictures in it"),
        ("pictures", "is not a picture that can be read"),
    ],
)
def test_what_cannot_be_read_is_refused_and_closed(broken, name, words):
    before = psutil.Process().num_fds(), psutil.Process().num_threads()
    for _ in range(3):
        with pytest.raises(SourceError, match=words) as caught:
            list(sources.frames(broken / name))
        assert name in str(caught.value)
        del caught  # its traceback holds the decoder
    assert (psutil.Process().num_fds(), psutil.Process().num_threads()) == before


def test_a_file_that_never_ends_and_holds_nothing_is_given_up(tmp_path, monkeypatch):
    """FFmpeg would collect all of it as one packet."""
    monkeypatch.setattr(decoder, "FILE_TIMEOUT_S", 0.5)
    with (tmp_path / "zeros.h264").open("wb") as file:
        file.truncate(50 * 2**30)
    with pytest.raises(SourceError), sources.open_path(tmp_path / "zeros.h264"):
        pass


@pytest.mark.parametrize("path", ["/tmp/" + "x" * 5000, "~nobody-of-that-name/x.mp4", "/tmp/a\0b.mp4"])
def test_names_that_no_file_can_have_are_refused_in_words(path):
    with pytest.raises(SourceError), sources.open_source(StreamConfig(url=path)):
        pass


def test_a_file_that_breaks_off_gives_what_it_has(tmp_path):
    whole = videos.write(tmp_path / "whole.mkv", videos.moving(40), "ffv1").read_bytes()
    path = tmp_path / "cut.mkv"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert 10 < sum(1 for _ in sources.frames(path)) < 40


def test_an_abandoned_iterator_closes_its_container(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(30))
    before = psutil.Process().num_fds()
    frames = sources.frames(path)
    assert len(list(islice(frames, 3))) == 3
    assert psutil.Process().num_fds() > before
    frames.close()
    assert psutil.Process().num_fds() == before


def test_a_hundred_opens_leave_nothing(tmp_path):
    path = videos.write(tmp_path / "a.mp4", videos.moving(3))
    process = psutil.Process()
    list(sources.frames(path))
    before = process.num_fds(), process.num_threads()
    for _ in range(100):
        assert next(iter(sources.frames(path))).index == 0
    assert (process.num_fds(), process.num_threads()) == before


def test_pictures_go_without_the_garbage_collector(tmp_path):
    """It comes by too seldom in a process that makes few objects: the pictures would be gigabytes by then."""
    path = videos.write(tmp_path / "a.mp4", videos.moving(20))
    list(sources.frames(path))
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in sources.frames(path)) == 20
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_a_missing_decoder_device_falls_back_and_says_so(tmp_path):
    if os.path.exists("/dev/nvidiactl") or os.path.exists("/dev/dri"):  # noqa: PTH110
        pytest.skip("there is a decoder device here")
    path = videos.write(tmp_path / "a.mp4", videos.moving(5))
    for kind in ("cuda", "vaapi", "auto"):
        with sources.open_source(StreamConfig(url=str(path), hwaccel=kind)) as clip:
            assert sum(1 for _ in clip) == 5
            assert clip.notice is not None
            assert clip.notice.startswith("hwaccel: no such device here")
            assert clip.notice.endswith("decoding on the CPU")


@pytest.mark.skipif(not CLIPS.exists(), reason="the clips are not here")
def test_a_real_clip():
    frames = list(islice(sources.frames(CLIPS / "01_dog.mp4"), 12))
    assert {frame.size_wh for frame in frames} == {(1280, 720)}
    assert isinstance(frames[0].image, I420)
    assert frames[0].image.colour == Colour("bt709", False)


def playlist(path: Path, *names: str) -> Path:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:5", *(f"#EXTINF:5,\n{name}" for name in names), "#EXT-X-ENDLIST"]
    path.write_text("\n".join(lines) + "\n")
    return path


def admitted_in(folder: Path) -> Callable[[str], bool]:
    return lambda url: allowed(url, [f"{folder}/**"])


def test_a_client_s_playlist_plays_what_is_admitted(tmp_path: Path) -> None:
    videos.write(tmp_path / "part.ts", videos.moving(5))
    path = playlist(tmp_path / "a.m3u8", "part.ts")
    with sources.open_source(StreamConfig(url=str(path)), admitted=admitted_in(tmp_path)) as source:
        assert sum(1 for _ in source) == 5


@pytest.mark.parametrize("name", ["../secret.ts", "{folder}/secret.ts", "file:{folder}/secret.ts", "link.ts"])
def test_a_client_s_playlist_names_nothing_else(tmp_path: Path, name: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    videos.write(tmp_path / "secret.ts", videos.moving(5))
    (inside / "link.ts").symlink_to(tmp_path / "secret.ts")
    path = playlist(inside / "a.m3u8", name.format(folder=tmp_path))
    with pytest.raises(SourceError, match="which no pattern"):
        sources.open_source(StreamConfig(url=str(path)), admitted=admitted_in(inside))


def test_a_client_s_pipe_is_called_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "film.mp4")
    with pytest.raises(
        SourceError, match=r"film\.mp4, which is no file, but a pipe, a socket, a device or a folder"
    ):
        sources.open_source(StreamConfig(url=str(tmp_path / "film.mp4")), admitted=admitted_in(tmp_path))


def test_nor_a_host(tmp_path: Path) -> None:
    path = playlist(tmp_path / "a.m3u8", "http://127.0.0.1:9/part.ts")
    with pytest.raises(SourceError, match="which no pattern"):
        sources.open_source(StreamConfig(url=str(path)), admitted=lambda _: True)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.ffconcat", "ffconcat version 1.0\nfile other.mp4\n"),
        ("a.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n"),
    ],
)
def test_what_opens_files_or_hosts_by_itself_is_the_operator_s(tmp_path: Path, name: str, text: str) -> None:
    """What is in the configuration was written by who owns the files."""
    (tmp_path / "other.mp4").write_bytes(b"secret")
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match="playlists, which name other files or hosts"):
        sources.open_source(StreamConfig(url=str(tmp_path / name)), admitted=lambda _: True)


@pytest.mark.parametrize("kind", ["a film", "a folder"])
def test_a_small_picture_is_not_enlarged_without_end(tmp_path, kind):
    if kind == "a film":
        path = videos.write(tmp_path / "a.mp4", [videos.flat((90, 100, 170), (32, 16))] * 2)
    else:
        path = tmp_path / "pictures"
        path.mkdir()
        Pil.new("RGB", (32, 16)).save(path / "0.png")
    with sources.open_source(StreamConfig(url=str(path), size=(4096, 2048))) as source:
        assert source.size_wh == (4096, 2048)
    with pytest.raises(
        SourceError, match="size: 8192x8192 enlarges pictures of 32x16; to at most 8 million pixels"
    ):
        sources.open_source(StreamConfig(url=str(path), size=(8192, 8192)))


@pytest.mark.parametrize("options", [{"fflags": "+shortest"}, {"max_delay": "x\ny"}])
def test_a_value_that_ffmpeg_does_not_take_is_no_playlist_alone(tmp_path, options):
    path = videos.write(tmp_path / "a.mp4", [videos.flat((90, 100, 170), (32, 16))] * 2)
    with pytest.raises(SourceError, match=f"options: FFmpeg does not take a value of {next(iter(options))}"):
        sources.open_source(StreamConfig(url=str(path), options=options), admitted=lambda _: True)
