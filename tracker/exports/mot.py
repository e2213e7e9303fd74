"""Results as MOT Challenge text: boxes only, one line for each object and frame."""

from pathlib import Path

from tracker.exports.results import FrameResult


class MotText:
    """`frame,id,left,top,width,height,confidence,-1,-1,-1`; frames and pixels count from 1, as MOT's do."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", buffering=1)  # whole lines, whatever happens

    def write(self, result: FrameResult) -> None:
        for record in result.visible():
            assert record.box is not None
            x1, y1, x2, y2 = record.box
            confidence = 1 if record.score is None else record.score
            numbers = (result.frame + 1, record.object, x1 + 1, y1 + 1, x2 - x1, y2 - y1, confidence, -1, -1, -1)
            self._file.write(",".join(map(str, numbers)) + "\n")

    def close(self) -> None:
        self._file.close()
