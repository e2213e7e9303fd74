"""What commands say of their outputs where one of them cannot be written."""

from pathlib import Path

import pytest

from tracker.cli.outputs import naming, saying_what_is_whole


def write(path: Path) -> None:
    with path.open("w") as file:
        file.write("a line\n")


@pytest.mark.parametrize(
    ("full", "said"),
    [
        (("a.jsonl",), "whole as far as it went: {0}/b.txt, {0}/c.mp4\n"),
        (("a.jsonl", "c.mp4"), "whole as far as it went: {0}/b.txt\n"),
        (("a.jsonl", "b.txt", "c.mp4"), ""),
    ],
)
def test_on_a_full_disk_it_is_said_what_can_be_used(
    tmp_path: Path, full: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.txt", "c.mp4")]
    for name in full:
        (tmp_path / name).symlink_to("/dev/full")

    def write_all(left: list[Path]) -> None:
        """Each is tried, as files are closed one after the other."""
        if left:
            try:
                naming(left[0], lambda: write(left[0]))()
            finally:
                write_all(left[1:])

    with pytest.raises(OSError, match="No space left"), saying_what_is_whole(paths):
        write_all(paths)
    assert capsys.readouterr().err == said.format(tmp_path)
