"""Fetch one file: resumed where an earlier try stopped, verified, and under its name only when it is right."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.errors import ModelError

if TYPE_CHECKING:
    from rich.progress import Progress

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


def download(url: str, sha256: str, target: Path, *, progress: bool = True) -> None:
    """Fetch `url` to `target`, with a progress bar on stderr. Raises ModelError, which says what to do."""
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _transfer(url, part, progress)
        found = sha256_of(part)
        if found != sha256:
            part.unlink()
            raise ModelError(f"{url}: sha256 is {found}, not {sha256}; what came was thrown away: try again")
        part.replace(target)
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise ModelError(
            f"{url} cannot be fetched: {getattr(error, 'reason', None) or error}. Check the network and try again "
            f"(what has arrived is kept), or put the file at {target}, or name your own: model.checkpoint: FILE"
        ) from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _transfer(url: str, part: Path, progress: bool) -> None:
    """Append to `part` what it lacks of `url`. A server that cannot resume sends all of it again."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # all of it is here; its sha256 decides
        raise
    with response:
        resumed = response.status == http.HTTPStatus.PARTIAL_CONTENT
        _save(response, part, have if resumed else 0, progress)


def _save(response: http.client.HTTPResponse, part: Path, start: int, progress: bool) -> None:
    total = start + int(response.headers["Content-Length"])
    with part.open("ab" if start else "wb") as file, _bar(progress) as bar:
        task = bar.add_task(part.stem, total=total, completed=start)
        while chunk := response.read(_CHUNK):
            file.write(chunk)
            bar.advance(task, len(chunk))
    if (size := part.stat().st_size) < total:
        raise OSError(f"the connection ended after {size} of {total} bytes")


def _bar(shown: bool) -> "Progress":
    # Only where something is fetched: whoever has the weights need not wait for it.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not shown)
