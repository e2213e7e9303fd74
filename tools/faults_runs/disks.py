"""A disk that the kernel takes to be failing: ext4 in a file, for who may mount it."""

import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

MIB = 32


class FailingDisk:
    """Mounted at `path`; `fail` makes it read-only for good, `mount_anew` gives it back."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "disk"
        self._image = folder / "disk.img"

    def mount(self) -> str | None:
        """Returns why it cannot be had."""
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(MIB * 2**20)
        try:
            _run("mkfs.ext4", "-q", "-F", self._image)
            self._mount()
        except (OSError, subprocess.CalledProcessError):
            return "no ext4 can be mounted here"
        if self._trigger().exists():
            return None
        self.unmount()
        return "this kernel has no trigger_fs_error"

    def fail(self) -> None:
        self._trigger().write_text("1")

    def mount_anew(self) -> None:
        """A copy of it: the old one stays as it is while anybody holds a file on it."""
        copied = self._image.with_suffix(".copy")
        shutil.copyfile(self._image, copied)
        subprocess.run(["e2fsck", "-p", "-f", copied], capture_output=True, check=False)  # 1: mended
        self.unmount()
        self._image = copied
        self._mount()

    def unmount(self) -> None:
        """Also while files are open on it."""
        with suppress(subprocess.CalledProcessError):
            _run("umount", "-l", self.path)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.path)

    def _trigger(self) -> Path:
        device = _run("findmnt", "-no", "SOURCE", self.path).strip()
        return Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"


def _run(*command: object) -> str:
    return subprocess.run([str(word) for word in command], capture_output=True, check=True, text=True).stdout
