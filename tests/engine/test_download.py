"""Weights are fetched whole or not at all, from a real server on loopback."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tracker.engine.models import zoo
from tracker.engine.models.download import download
from tracker.errors import ModelError

DATA = bytes(range(256)) * 40_000  # ten pieces
SHA256 = hashlib.sha256(DATA).hexdigest()


@dataclass
class Server:
    url: str
    ranges: list[str | None] = field(default_factory=list)  # asked for
    resumes: bool = True
    stops_after: int | None = None  # bytes; then the connection ends


@pytest.fixture
def server() -> Iterator[Server]:
    told = Server("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            told.ranges.append(asked)
            if self.path != "/weights.pt":
                self.send_error(404)
                return
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and told.resumes else 0
            if start >= len(DATA):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(DATA) - start))
            self.end_headers()
            self.wfile.write(DATA[start : told.stops_after])

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        told.url = f"http://127.0.0.1:{httpd.server_port}/weights.pt"
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield told
        httpd.shutdown()
        thread.join()


def left(folder: Path) -> dict[str, int]:
    return {p.name: p.stat().st_size for p in folder.iterdir()}


def test_a_file_is_fetched(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "m.pt"
    download(server.url, SHA256, target, progress=False)
    assert target.read_bytes() == DATA
    assert left(target.parent) == {"m.pt": len(DATA)}


@pytest.mark.parametrize("resumes", [True, False])
def test_an_interrupted_download_is_gone_on_with(server: Server, tmp_path: Path, resumes: bool) -> None:
    server.stops_after, server.resumes = 3_000_000, resumes
    with pytest.raises(ModelError, match=r"ended after 3000000 of 10240000 bytes.*what has arrived is kept"):
        download(server.url, SHA256, tmp_path / "m.pt", progress=False)
    assert left(tmp_path) == {"m.pt.part": 3_000_000}
    server.stops_after = None
    download(server.url, SHA256, tmp_path / "m.pt", progress=False)
    assert server.ranges == [None, "bytes=3000000-"]
    assert (tmp_path / "m.pt").read_bytes() == DATA
    assert left(tmp_path) == {"m.pt": len(DATA)}


def test_all_was_there_but_its_name(server: Server, tmp_path: Path) -> None:
    (tmp_path / "m.pt.part").write_bytes(DATA)
    download(server.url, SHA256, tmp_path / "m.pt", progress=False)
    assert left(tmp_path) == {"m.pt": len(DATA)}


def test_what_is_not_what_was_published_is_thrown_away(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="sha256"):
        download(server.url, "0" * 64, tmp_path / "m.pt", progress=False)
    assert left(tmp_path) == {}


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/m.pt", "http://name.invalid/m.pt"])
def test_offline(tmp_path: Path, url: str) -> None:
    with pytest.raises(ModelError, match=r"cannot be fetched: .*Check the network.*put the file at .*m\.pt"):
        download(url, SHA256, tmp_path / "m.pt", progress=False)


def test_not_found(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Not Found"):
        download(server.url + "x", SHA256, tmp_path / "m.pt", progress=False)


def test_by_name(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_MODELS", str(tmp_path))
    monkeypatch.setattr(zoo, "weights", lambda _: zoo.Weights(server.url, SHA256))
    assert zoo.fetch("sam2_hiera_tiny", progress=False) == tmp_path / "sam2_hiera_tiny.pt"
    zoo.fetch("sam2_hiera_tiny", progress=False)
    assert len(server.ranges) == 1, "what is there is not fetched again"


def test_the_bar_says_how_far_it_is(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(server.url, SHA256, tmp_path / "m.pt")
    assert "10.2/10.2 MB" in capfd.readouterr().err
