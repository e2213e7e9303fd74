"""Cameras for tests: a real RTSP server as a process, and small HTTP ones."""

import contextlib
import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RtspServer:
    """tests/rtsp_server.py as a process that can be killed, stopped and started again at the same port."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def url(self, path: str = "live", credentials: str = "") -> str:
        return f"rtsp://{credentials}127.0.0.1:{self.port}/{path}"

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen(
            ["/usr/bin/python3", str(script), str(self.port), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.port = int(self._answer("ready"))

    def command(self, line: str) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self._answer(line.partition(" ")[0])

    def freeze(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                if pipe is not None:
                    pipe.close()
        self.process = None

    def _answer(self, word: str, timeout_s: float = 30) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + timeout_s
        while select.select([self.process.stdout], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
            line = self.process.stdout.readline()
            if not line:
                break
            said, _, value = line.strip().partition(" ")
            if said == word:
                return value
        raise AssertionError(f"the RTSP server did not say {word!r}")


@contextlib.contextmanager
def rtsp(*arguments: str) -> Iterator[RtspServer]:
    server = RtspServer(*arguments)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def http(serve: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server that answers every GET with `serve`; gives its base URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                serve(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def silent_peer() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


@contextlib.contextmanager
def mute_at_play() -> Iterator[int]:
    """The port of an RTSP camera that answers all but PLAY: then it says nothing, and listens on."""
    sdp = "v=0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:stream=0\r\n"
    session = "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1"
    answers = {"DESCRIBE": ("Content-Type: application/sdp", sdp), "SETUP": (session, "")}

    class Answers(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            method = ""
            for line in self.rfile:
                words = line.decode().split()
                if words and words[-1] == "RTSP/1.0":
                    method = words[0]
                elif words and words[0] == "CSeq:" and method != "PLAY":
                    header, body = answers.get(method, ("Public: DESCRIBE, SETUP, PLAY", ""))
                    head = f"RTSP/1.0 200 OK\r\nCSeq: {words[1]}\r\n{header}\r\nContent-Length: {len(body)}"
                    self.wfile.write(f"{head}\r\n\r\n{body}".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
