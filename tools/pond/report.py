"""What the demo makes of what the daemon published: figures by the truth, a film, a contact sheet, a table."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from rich.console import Console
from rich.table import Table

from tracker.client import mask_of
from tracker.images import overlay
from tracker.images.overlay import Drawing
from tracker.protocol.messages import Tracks

U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

HIDDEN_PX = 50  # of which less is seen counts as hidden: a fish has 5,000
SHEET_COLUMNS, SHEET_ROWS = 4, 4


@dataclass(frozen=True)
class Judged:
    """One object's figures over the frames on which it was published: `iou_n` and what the truth said."""

    object: int
    label: str
    iou_n: NDArray[np.float64]
    hidden_n: Bool
    ended: str = ""
    """Where its mask was on the last frame that it was published on; see `ending`."""

    @property
    def mean_iou(self) -> float:
        return float(self.iou_n.mean())


def judge(object_id: int, published: list[Tracks], truth_nhw: Bool) -> Judged:
    """Compare an object's outlines with its truth [frames, h, w], on every frame published with it.

    A frame counts its IoU where the object is seen, and nothing where it was missed. Where it is hidden, the right
    answer is "lost": that counts 1, any mask counts 0.
    """
    found = [
        (message.frame, record) for message in published for record in message.objects if record.object == object_id
    ]
    if not found:
        raise SystemExit(f"demo: object {object_id} was never published")
    hidden_n = np.array([truth_nhw[frame].sum() < HIDDEN_PX for frame, _ in found])
    size_wh = (truth_nhw.shape[2], truth_nhw.shape[1])
    iou_n = [
        float(record.state == "lost") if hidden else _iou(mask_of(record, size_wh), truth_nhw[frame])
        for (frame, record), hidden in zip(found, hidden_n, strict=True)
    ]
    return Judged(object_id, found[0][1].label or "", np.array(iou_n), hidden_n)


def ending(object_id: int, published: list[Tracks], labels_nhw: U8, number: int) -> str:
    """What most of an object's last mask lies on: itself, another one or the background. Without a mask, whether
    number `number` of the truth was there."""
    found = [(m.frame, record) for m in published for record in m.objects if record.object == object_id]
    frame, record = found[-1]
    label_hw = labels_nhw[frame]
    mask_hw = mask_of(record, (label_hw.shape[1], label_hw.shape[0]))
    if not mask_hw.any():
        return "on nothing" if (label_hw == number).sum() >= HIDDEN_PX else "rightly gone"
    under = np.bincount(label_hw[mask_hw], minlength=number + 1)
    most = int(under.argmax())
    return "on itself" if most == number else "on another one" if most else "on the background"


def _iou(mask_hw: Bool, truth_hw: Bool) -> float:
    return float((mask_hw & truth_hw).sum() / (mask_hw | truth_hw).sum())


def drawn(message: Tracks, picture: U8) -> U8:
    """The picture [h, w, 3] with what was published of it."""
    return overlay.draw(
        picture, [Drawing(r.object, r.outline, r.box, r.label, r.score, r.state) for r in message.objects]
    )


def write_jsonl(path: Path, published: list[Tracks]) -> None:
    """Every message on a line, as it came."""
    path.write_bytes(b"".join(msgspec.json.encode(message) + b"\n" for message in published))


def contact_sheet(path: Path, pictures: list[U8]) -> None:
    """Evenly chosen pictures [h, w, 3] as one PNG, at half size."""
    count = min(SHEET_COLUMNS * SHEET_ROWS, len(pictures))
    chosen = [pictures[i][::2, ::2] for i in np.linspace(0, len(pictures) - 1, count).round().astype(int)]
    height, width = chosen[0].shape[:2]
    sheet = np.zeros((SHEET_ROWS * height, SHEET_COLUMNS * width, 3), np.uint8)
    for place, picture in enumerate(chosen):
        top, left = height * (place // SHEET_COLUMNS), width * (place % SHEET_COLUMNS)
        sheet[top : top + height, left : left + width] = picture
    Pil.fromarray(sheet).save(path)


def print_table(console: Console, judged: list[Judged]) -> None:
    table = Table(title="against the truth")
    for heading in (
        "object",
        "prompt",
        "frames",
        "mean IoU",
        "IoU where seen",
        "hidden frames",
        "lost while hidden",
        "it ended",
    ):
        table.add_column(heading, justify="left" if heading in ("prompt", "it ended") else "right")
    for one in judged:
        seen = f"{one.iou_n[~one.hidden_n].mean():.3f}"
        right = int(one.iou_n[one.hidden_n].sum())
        count = str(len(one.iou_n))
        hidden = str(one.hidden_n.sum())
        table.add_row(str(one.object), one.label, count, f"{one.mean_iou:.3f}", seen, hidden, str(right), one.ended)
    console.print(table)
