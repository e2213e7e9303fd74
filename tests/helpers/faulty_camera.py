"""A small RTSP camera (RFC 2326, TCP only) with faults that real ones have; H.264 that PyAV encodes."""

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av

from helpers import videos

FPS = 20
SIZE_WH = (64, 48)
CLOCK_HZ = 90_000


@dataclass(frozen=True)
class Faults:
    """What is odd about a camera."""

    video_stops_after: int | None = None  # pictures
    audio: bool = False  # sound beside the pictures, and on without them
    mute_track_first: bool = False  # a video track that never sends comes before the one that does
    refuses_back_channel: bool = False  # it offers a way for sound to come back, and answers 406 to who takes it
    clock_stands_still: bool = False  # all RTP times are equal
    keyframe_every: int = 1
    slices: int = 1  # in a picture, of at most 3
    own_parameters: bool = False  # every slice of a keyframe comes with parameter sets
    lost_slice: tuple[int, int] | None = None  # which picture loses which of its slices on the way


@contextlib.contextmanager
def faulty_camera(**faults: object) -> Iterator["Camera"]:
    camera = Camera(Faults(**faults))  # type: ignore[arg-type]
    try:
        yield camera
    finally:
        camera.close()


def access_units(keyframe_every: int = 1, slices: int = 1) -> list[list[bytes]]:
    """Pictures of a moving bar, each a list of NAL units."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = SIZE_WH
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, FPS), Fraction(FPS)
    encoder.options = {"tune": "zerolatency", "g": str(keyframe_every)}
    encoder.options |= {"x264-params": f"repeat-headers=1:sliced-threads=0:slices={slices}"}
    units = []
    for index, planes in enumerate(videos.moving(20, SIZE_WH)):
        frame = videos.frame_of(planes)
        frame.pts = index
        for packet in encoder.encode(frame):
            nals = re.split(rb"\x00\x00\x00?\x01", bytes(packet))
            units.append([nal for nal in nals if nal])
    return units


@dataclass
class Camera:
    faults: Faults
    connections: list[socket.socket] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._units = access_units(self.faults.keyframe_every, self.faults.slices)
        self._closed = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self._listening.getsockname()[1]}/live"
        self._start(self._accept)

    def close(self) -> None:
        self._closed.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join()
        for connection in self.connections:
            connection.close()

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        self.threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                connection, _ = self._listening.accept()
                self.connections.append(connection)
                self._start(self._answer, connection)

    def _answer(self, connection: socket.socket) -> None:
        channels: dict[str, int] = {}
        with contextlib.suppress(OSError):
            for verb, url, headers in requests(connection):
                connection.sendall(self._reply(verb, url, headers, channels).encode())
                if verb == "PLAY":
                    self._start(self._play, connection, channels)

    def _reply(self, verb: str, url: str, headers: dict[str, str], channels: dict[str, int]) -> str:
        sequence = f"CSeq: {headers['cseq']}"
        if verb == "SETUP":
            if url.endswith("back"):
                return f"RTSP/1.0 406 Not Acceptable\r\n{sequence}\r\n\r\n"
            numbers = re.search(r"interleaved=(\d+)-(\d+)", headers["transport"])
            assert numbers is not None
            channels[url.rsplit("/", 1)[1]] = int(numbers[1])
            transport = f"Transport: RTP/AVP/TCP;unicast;{numbers[0]}\r\n"
            return f"RTSP/1.0 200 OK\r\n{sequence}\r\n{transport}Session: 1\r\n\r\n"
        if verb == "DESCRIBE":
            body = self._description()
            about = f"Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {len(body)}"
            return f"RTSP/1.0 200 OK\r\n{sequence}\r\n{about}\r\n\r\n{body}"
        return f"RTSP/1.0 200 OK\r\n{sequence}\r\nSession: 1\r\nPublic: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n"

    def _description(self) -> str:
        video = ["a=fmtp:{0} packetization-mode=1", "a=control:{1}"]
        tracks = [("video", 96, "H264/90000", "video", video)]
        if self.faults.mute_track_first:
            tracks.insert(0, ("video", 97, "H264/90000", "mute", video))
        if self.faults.audio:
            tracks.append(("audio", 8, "PCMA/8000", "audio", ["a=control:{1}"]))
        if self.faults.refuses_back_channel:
            tracks.append(("audio", 0, "PCMU/8000", "back", ["a=control:{1}", "a=sendonly"]))
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=camera", "c=IN IP4 0.0.0.0", "t=0 0", "a=control:*"]
        for kind, number, coding, name, more in tracks:
            lines += [f"m={kind} 0 RTP/AVP {number}", f"a=rtpmap:{number} {coding}"]
            lines += [line.format(number, name) for line in more]
        return "\r\n".join(lines) + "\r\n"

    def _play(self, connection: socket.socket, channels: dict[str, int]) -> None:
        stops_after = self.faults.video_stops_after
        with contextlib.suppress(OSError):
            for index in range(1_000_000):
                at = 0 if self.faults.clock_stands_still else index * CLOCK_HZ // FPS
                if "video" in channels and (stops_after is None or index < stops_after):
                    connection.sendall(self._picture(index, at, channels["video"]))
                if "audio" in channels:
                    sound = rtp(8, index, index * 160, last=True, payload=b"\xd5" * 160)
                    connection.sendall(interleaved(channels["audio"], sound))
                if self._closed.wait(1 / FPS):
                    return

    def _picture(self, index: int, at: int, channel: int) -> bytes:
        """The RTP packets of one picture (RFC 6184, one NAL unit each)."""
        nals = self._sent(index)
        packets = [
            rtp(96, index * 16 + number, at, last=number == len(nals) - 1, payload=nal)
            for number, nal in enumerate(nals)
        ]
        return b"".join(interleaved(channel, packet) for packet in packets)

    def _sent(self, index: int) -> list[bytes]:
        """The NAL units of one picture, as far as they arrive."""
        nals = self._units[index % len(self._units)]
        slices = [nal for nal in nals if nal[0] & 31 in (1, 5)]
        others = [nal for nal in nals if nal not in slices]
        lost = None
        if self.faults.lost_slice is not None and self.faults.lost_slice[0] == index:
            lost = slices[self.faults.lost_slice[1]]
        if self.faults.own_parameters:
            return [nal for slice_ in slices if slice_ is not lost for nal in (*others, slice_)]
        return [*others, *(slice_ for slice_ in slices if slice_ is not lost)]


def requests(connection: socket.socket) -> Iterator[tuple[str, str, dict[str, str]]]:
    """The RTSP requests of a client; its RTCP reports are passed over."""
    received = b""
    while data := connection.recv(65536):
        received += data
        while received:
            if received[0] == ord("$"):
                if len(received) < 4 or len(received) < (end := 4 + int.from_bytes(received[2:4])):
                    break
                received = received[end:]
                continue
            head, found, rest = received.partition(b"\r\n\r\n")
            if not found:
                break
            received = rest
            first, *lines = head.decode().split("\r\n")
            verb, url, _ = first.split()
            fields = (line.partition(":") for line in lines)
            yield verb, url, {name.strip().lower(): value.strip() for name, _, value in fields}


def rtp(kind: int, sequence: int, at: int, *, last: bool, payload: bytes) -> bytes:
    return (
        struct.pack(">BBHII", 0x80, kind | (0x80 if last else 0), sequence & 0xFFFF, at & 0xFFFFFFFF, 7) + payload
    )


def interleaved(channel: int, packet: bytes) -> bytes:
    return b"$" + bytes([channel]) + struct.pack(">H", len(packet)) + packet
