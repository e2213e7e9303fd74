"""Drawing objects on pictures, and writing them as video."""

import resource
from itertools import pairwise

import av
import numpy as np
import pytest

from tracker.errors import SourceError
from tracker.images.imaging import to_rgb
from tracker.images.overlay import COLOURS_RGB, ZONE_COLOUR, Drawing, ZoneDrawing, colour_of, draw, palette
from tracker.images.video_writer import VideoWriter
from tracker.masks.geometry import shape_of_mask
from tracker.streams import sources

GREY = np.full((120, 160, 3), 90, np.uint8)


def ring_mask() -> np.ndarray:
    y, x = np.mgrid[:120, :160]
    distance = np.hypot(x - 80, y - 70)
    return (distance < 40) & (distance > 15)


def test_a_mask_is_tinted_inside_its_outline_only():
    mask_hw = ring_mask()
    drawn_hwc = draw(GREY, [Drawing.of(3, shape_of_mask(mask_hw, tolerance_px=0))])
    changed_hw = (drawn_hwc != GREY).any(-1)
    assert changed_hw[70, 110]
    assert (drawn_hwc[70, 110] == (0.6 * 90 + 0.4 * np.array(colour_of(3))).astype(np.uint8)).all()
    assert not changed_hw[70, 80], "the hole is not tinted"
    assert not changed_hw[115:].any()
    assert (GREY == 90).all(), "the picture itself stays as it was"


def test_without_an_outline_the_box_is_drawn():
    drawn_hwc = draw(GREY, [Drawing(1, box_xyxy=(20, 40, 60, 80))])
    assert (drawn_hwc[79, 40] == colour_of(1)).all()
    assert (drawn_hwc[60, 40] == 90).all()


@pytest.mark.parametrize(
    "drawing", [Drawing(7, label="Löwe", state="lost"), Drawing(7, state="pending")], ids=["lost", "pending"]
)
def test_what_cannot_be_seen_is_listed_at_the_bottom_left(drawing):
    changed_hw = (draw(GREY, [drawing]) != GREY).any(-1)
    assert changed_hw[115, 2]
    assert not changed_hw[:90].any()


def test_a_caption_stays_inside_the_picture():
    drawn_hwc = draw(GREY, [Drawing(2, box_xyxy=(150, 0, 160, 9), label="forklift", score=0.93)])
    plate = (drawn_hwc == colour_of(2)).all(-1)
    assert plate[1, 70:150].any()
    assert plate.any(0)[-1]


def test_a_caption_is_at_the_largest_part_not_at_a_speck():
    mask_hw = np.zeros((120, 160), bool)
    mask_hw[60:110, 90:150] = mask_hw[58:60, 4:6] = True
    plate = (draw(GREY, [Drawing.of(2, shape_of_mask(mask_hw, tolerance_px=0))]) == colour_of(2)).all(-1)
    assert plate[50:56, 90:96].any()
    assert not plate[:56, :80].any()


LONG = "a yellow forklift with a pallet, seen from behind"


def coloured(drawn_hwc, number):
    return (drawn_hwc == colour_of(number)).all(-1)


@pytest.mark.parametrize("label", ["forklift", LONG])
@pytest.mark.parametrize("corner_xy", [(30, 60), (30, 2), (150, 118)], ids=["amid", "top", "bottom right"])
def test_captions_do_not_cover_each_other(label, corner_xy):
    """Of things so close and small that there is little but their captions, and of one that is lost."""
    x, y = corner_xy
    drawings = [Drawing(i, box_xyxy=(x + i, y, x + i + 1, y + 1), label=label) for i in (1, 2, 3)]
    drawings.append(Drawing(4, label=label, state="lost"))
    drawn_hwc = draw(GREY, drawings)
    for drawing in drawings:
        alone_hw = coloured(draw(GREY, [drawing]), drawing.object)
        assert coloured(drawn_hwc, drawing.object).sum() >= alone_hw.sum() - 2, "but for the boxes of one pixel"


def test_captions_do_not_cover_those_of_zones():
    zones = [ZoneDrawing(name, [(20, 60), (140, 60)], "left 1, right 2") for name in ("gate", "yard")]
    drawn_hwc = draw(GREY, [Drawing(2, box_xyxy=(30, 62, 31, 63), label="cat")], zones)
    alone_hwc = [draw(GREY, [], [zone]) for zone in zones]
    white = [(picture_hwc == ZONE_COLOUR).all(-1).sum() for picture_hwc in (*alone_hwc, drawn_hwc)]
    assert white[2] > 0.8 * (white[0] + white[1]), "but for the line, which both have"


def test_a_long_label_is_cut_and_the_score_is_not():
    wide_hwc = np.full((120, 600, 3), 90, np.uint8)
    given = {"box_xyxy": (10, 60, 11, 61), "score": 0.93}
    by_letters = [
        coloured(draw(wide_hwc, [Drawing(2, label="i" * letters, **given)]), 2).any(0).sum()
        for letters in (4, 40, 80, 160)
    ]
    assert by_letters == sorted(by_letters)
    assert by_letters[-1] == by_letters[-2] < 300
    scored, unscored = (
        coloured(draw(wide_hwc, [Drawing(2, label=LONG * 4, **given | more)]), 2).any(0).sum()
        for more in ({}, {"score": None})
    )
    assert scored > unscored + 15


@pytest.mark.parametrize("outline", [[[[-20, -20, 30, -20, 30, 30]]], [[[300, 300, 310, 300, 310, 320]]]])
def test_an_outline_that_leaves_the_picture_is_clipped(outline):
    assert draw(GREY, [Drawing(1, outline, (0, 0, 30, 30))]).shape == GREY.shape


def test_neighbouring_ids_have_colours_apart():
    assert [colour_of(i) for i in range(1, 19)] == list(COLOURS_RGB)
    for first, second in pairwise(range(1, 400)):
        assert np.abs(np.subtract(colour_of(first), colour_of(second))).sum() > 100


def test_the_palette_of_png_files_has_the_same_colours():
    colours = np.reshape(palette(), (256, 3))
    assert (colours[0] == 0).all()
    assert all((colours[i] == colour_of(i)).all() for i in range(1, 256))


@pytest.mark.parametrize("size_wh", [(64, 48), (63, 47), (65, 48)])
def test_a_video_holds_its_pictures(tmp_path, size_wh):
    colours = [(200, 30, 60), (20, 180, 40), (240, 240, 240), (10, 20, 150)]
    with VideoWriter(tmp_path / "a.mp4", size_wh, 12.5) as video:
        for colour in colours:
            video.write(np.full((size_wh[1], size_wh[0], 3), colour, np.uint8))
    frames = list(sources.frames(tmp_path / "a.mp4"))
    assert [round(frame.pts, 3) for frame in frames] == [0, 0.08, 0.16, 0.24]
    for frame, colour in zip(frames, colours, strict=True):
        assert frame.size_wh == tuple(side + side % 2 for side in size_wh)
        assert np.abs(to_rgb(frame.image).astype(int) - colour).max() <= 4


def test_a_video_keeps_given_times_and_makes_them_rise(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (32, 32), 25) as video:
        for time_s in (0.0, 0.5, 0.5, 2.0):
            video.write(np.zeros((32, 32, 3), np.uint8), time_s)
    with av.open(str(tmp_path / "a.mp4")) as container:
        times_s = [frame.time for frame in container.decode(video=0)]
    assert times_s == pytest.approx([0, 0.5, 0.5, 2.0], abs=0.001)
    assert times_s == sorted(set(times_s))


def test_a_video_that_was_never_closed_still_plays(tmp_path):
    video = VideoWriter(tmp_path / "a.mp4", (64, 64), 25)
    rng = np.random.default_rng(0)
    for _ in range(600):
        video.write(rng.integers(0, 255, (64, 64, 3), np.uint8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((tmp_path / "a.mp4").read_bytes())
    video.close()
    assert len(list(sources.frames(cut))) >= 240


@pytest.mark.parametrize("count", [2, 60])
def test_a_disk_that_gets_full_is_told(tmp_path, count):
    """Also where all but the header is written when the file is closed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))  # in place of a disk
    try:
        with pytest.raises(OSError, match="too large"):
            write_noise(tmp_path / "a.mp4", count)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write_noise(path, count):
    rng = np.random.default_rng(0)
    with VideoWriter(path, (64, 64), 25) as video:
        for _ in range(count):
            video.write(rng.integers(0, 255, (64, 64, 3), np.uint8))


def test_a_name_with_a_colon_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with VideoWriter("12:30.mp4", (32, 32), 25) as video:
        video.write(np.zeros((32, 32, 3), np.uint8))
    assert len(list(sources.frames("12:30.mp4"))) == 1


def test_refusals(tmp_path):
    with pytest.raises(SourceError, match=r"missing/a\.mp4: cannot be written"):
        VideoWriter(tmp_path / "missing" / "a.mp4", (64, 64), 25)
    with pytest.raises(
        SourceError, match=r"wide\.mp4: a film's sides have at most 16384 pixels, and this is 16386x64"
    ):
        VideoWriter(tmp_path / "wide.mp4", (16386, 64), 25)
    with VideoWriter(tmp_path / "widest.mp4", (16384, 2), 25):
        pass
    with (
        VideoWriter(tmp_path / "a.mp4", (64, 64), 25) as video,
        pytest.raises(ValueError, match="a picture of 60x64"),
    ):
        video.write(np.zeros((64, 60, 3), np.uint8))
