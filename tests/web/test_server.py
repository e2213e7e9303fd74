"""The page's server as browsers and others meet it: headers, refusals, and what goes over the WebSocket."""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET, create_connection
from socket import socket as Socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from msgspec import Raw, structs
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from helpers.fake_daemon import STREAM, FakeDaemon, tracks
from helpers.pages import page_server
from helpers.proxies import proxied
from helpers.tracking import wait_until
from tracker.client import AsyncClient
from tracker.errors import Forbidden, Timeout
from tracker.protocol.messages import DeviceMemory, FrameMessage, Status, StepTimes
from tracker.protocol.records import StreamRecord
from tracker.web import operations
from tracker.web.patience import MAX_CONNECTIONS

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def address(daemon: FakeDaemon) -> Iterator[str]:
    with page_server(daemon.control.endpoint) as address:
        with socket(address) as connection:
            while receive(connection, "daemon")["info"] is None:
                pass
            wait_until(lambda: daemon.publisher.wanted("status/"))
            publish_status(daemon)
            receive(connection, "status")
        yield address


def get(url: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {k.lower(): v for k, v in error.headers.items()}, error.read()


def socket(address: str, origin: str | None = None) -> ClientConnection:
    named = Origin(origin or address.rstrip("/"))
    return connect(f"{address.replace('http', 'ws')}ws", origin=named, proxy=None, compression=None)


def deaf_socket(address: str) -> ClientConnection:
    """Takes next to nothing off the network until it is asked."""
    place = urlsplit(address)
    raw = Socket()
    raw.setsockopt(SOL_SOCKET, SO_RCVBUF, 65536)
    raw.connect((place.hostname, place.port))
    origin = Origin(address.rstrip("/"))
    return connect(f"{address.replace('http', 'ws')}ws", sock=raw, origin=origin, compression=None, max_queue=1)


def receive(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        data = connection.recv(timeout=10)
        if isinstance(data, str) and (message := json.loads(data))["kind"] == kind:
            return message


def ask(connection: ClientConnection, op: str, **args: Any) -> dict[str, Any]:
    connection.send(json.dumps({"kind": "call", "id": 1, "op": op, "args": args}))
    while True:
        data = connection.recv(timeout=10)
        if isinstance(data, str) and (message := json.loads(data))["kind"] in ("answer", "refused"):
            return message


def publish(daemon: FakeDaemon, frame: int, with_tracks: bool = True, width: str = "320") -> None:
    if with_tracks:
        daemon.publisher.publish("tracks/cam1/", tracks(frame))
    message = FrameMessage(stream="cam1", frame=frame, time=1.0, size=(64, 48), format="jpeg")
    daemon.publisher.publish(f"frames/cam1/{width}/", message, b"\xff\xd8 %d" % frame)


def publish_status(daemon: FakeDaemon, streams: Sequence[StreamRecord] = (STREAM,), time: float = 1.0) -> None:
    memory = DeviceMemory(device="cpu", used_bytes=0, total_bytes=0)
    daemon.publisher.publish("status/", Status(time=time, streams=[*streams], memory=memory, steps=StepTimes()))


def picture(data: str | bytes) -> tuple[dict[str, Any], bytes]:
    assert isinstance(data, bytes)
    length = int.from_bytes(data[:4], "little")
    return json.loads(data[4 : 4 + length]), data[4 + length :]


def test_what_was_asked_and_never_answered_may_have_been_done(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "TIMEOUT_S", 0.1)
    monkeypatch.setattr(operations, "LATE_S", 0.1)
    monkeypatch.setitem(daemon.answers, "streams.pause", None)

    async def pause() -> None:
        async with AsyncClient(daemon.control.endpoint) as client:
            await operations.ask(client, "streams.pause", Raw(b'{"stream": "cam1"}'))

    with pytest.raises(Timeout, match="whether it has done it, is not known"):
        asyncio.run(pause())


def read_to_the_end(connection: ClientConnection) -> None:
    while True:
        connection.recv(timeout=10)


def receive_picture(connection: ClientConnection) -> tuple[dict[str, Any], bytes]:
    while isinstance(data := connection.recv(timeout=10), str):
        pass
    return picture(data)


@pytest.mark.parametrize("path", ["", "s/cam1", "static/app.js", "static/nothing.js", "frames/cam1/5", "nowhere"])
def test_every_answer_carries_the_policy(address: str, path: str) -> None:
    _, headers, _ = get(address + path)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_the_page_has_no_script_or_style_of_its_own() -> None:
    folder = Path(__file__).parents[2] / "tracker" / "web" / "static"
    for path in folder.glob("*.html"):
        text = path.read_text()
        assert "<script>" not in text
        assert "style=" not in text
        assert "<style" not in text
    for path in folder.glob("*.js"):
        assert not {"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("} & set(
            path.read_text().split()
        )


def test_no_path_leaves_the_folder(address: str) -> None:
    assert get(address + "static/app.js")[0] == 200
    for path in ("static/..%2fapp.py", "static/%2e%2e%2f%2e%2e%2fconfig.py", "static/"):
        assert get(address + path)[0] == 404


@pytest.mark.parametrize(
    ("path", "status"), [("nowhere", 404), ("s/cam1/more", 404), ("static/nothing.js", 404), ("login", 405)]
)
def test_an_unknown_address_is_a_page_to_a_browser_and_bare_words_to_a_program(
    address: str, path: str, status: int
) -> None:
    found, headers, body = get(address + path, Accept="text/html,application/xhtml+xml")
    assert (found, headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert b'href="/"' in body
    found, headers, body = get(address + path)
    assert (found, headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert body in (b"Not Found", b"Method Not Allowed")


def test_a_frame_that_is_refused_has_the_same_form_for_a_browser(address: str) -> None:
    status, headers, _ = get(address + "frames/cam1/minus", Accept="text/html")
    assert (status, headers["content-type"]) == (400, "application/json")


def test_other_names_and_origins_are_refused(address: str) -> None:
    assert get(address, Host="evil.example")[0] == 421
    assert get(address, Origin="http://evil.example")[0] == 403
    with pytest.raises(InvalidStatus) as refused:
        socket(address, origin="http://evil.example")
    assert refused.value.response.status_code == 403


def test_a_frame_comes_with_its_number_and_refusals_as_the_daemon_words_them(address: str) -> None:
    status, headers, body = get(address + "frames/cam1/newest?max_width=320&pin_s=30")
    assert (status, headers["x-frame"], headers["x-size"], body) == (200, "5", "64x48", b"\x89PNG")
    status, _, body = get(address + "frames/cam1/minus")
    assert (status, json.loads(body)["code"]) == (400, "bad_request")
    status, _, body = get(address + "frames/cam1/newest?x=1")
    assert (status, json.loads(body)["message"][:15]) == (400, "unknown field '")


def test_a_token_is_asked_for_and_becomes_a_cookie(daemon: FakeDaemon, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("correct horse battery")
    with page_server(daemon.control.endpoint, "--token-file", str(token)) as address:
        status, _, body = get(address, Accept="text/html")
        assert (status, b"Token" in body) == (401, True)
        assert get(address + "static/app.js")[0] == 401
        assert get(address + "static/login.css")[0] == 200
        assert get(address, Authorization="Bearer correct horse battery")[0] == 200
        with pytest.raises(InvalidStatus):
            socket(address)
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        with opener.open(address + "login", b"token=correct+horse+battery", timeout=10) as response:
            assert b"app.js" in response.read()
        with pytest.raises(urllib.error.HTTPError), opener.open(address + "login", b"t" * 5000, timeout=10):
            pass


def test_whoever_comes_learns_of_the_daemon(address: str) -> None:
    with socket(address) as connection:
        assert receive(connection, "daemon")["info"]["model"]["name"] == "nano"


def test_operations_go_through_and_refusals_come_back(address: str, daemon: FakeDaemon) -> None:
    with socket(address) as connection:
        assert ask(connection, "objects.list")["result"]["objects"][0]["object"] == 7
        assert ask(connection, "frames.get", stream="cam1")["code"] == "unknown_op"
        refused = ask(connection, "objects.add", stream="cam1", points="here")
        assert (refused["code"], "points" in refused["message"]) == ("bad_request", True)
        daemon.answers["streams.add"] = Forbidden(f"control.allow_sources does not admit {HOSTILE}")
        refused = ask(connection, "streams.add", stream="cam2", url=HOSTILE)
        assert refused["message"].endswith(HOSTILE)


def test_a_candidates_outline_becomes_a_mask(address: str, daemon: FakeDaemon) -> None:
    while not daemon.asked.empty():
        daemon.asked.get()
    square = [[[1, 1, 3, 1, 3, 3, 1, 3]]]
    with socket(address) as connection:
        assert ask(connection, "objects.add", stream="cam1", drawing={"outline": square, "size": [64, 48]})[
            "result"
        ]
    asked = daemon.asked.get(timeout=5)
    while asked.op != "objects.add":
        asked = daemon.asked.get(timeout=5)
    assert asked.args.mask.size == (48, 64)


@pytest.mark.parametrize(
    ("op", "args", "words"),
    [
        ("objects.add", {"drawing": {"outline": [], "size": [0, 4]}}, "drawing.size"),
        ("objects.add", {"drawing": {"outline": [], "size": [16384, 16384]}}, "drawing.size"),
        ("objects.add", {"drawing": {"outline": [[[0, 0, 70, 0, 70, 9]]], "size": [64, 48]}}, "drawing.outline: x"),
        ("objects.add", {"drawing": {"outline": [[[0, -(10**22), 9, 9]]], "size": [64, 48]}}, "drawing.outline: y"),
        ("objects.add", {"drawing": {"outline": [[[0, 0, 9, 0, 9]]], "size": [64, 48]}}, "drawing.outline: a ring"),
        ("objects.list", {"drawing": {"outline": [], "size": [64, 48]}}, "drawing: objects.list takes none"),
        ("objects.add", {"points": [[1, 2]], "meta": {"a": 2**64}}, "64 bits"),
    ],
)
def test_what_a_page_cannot_mean_is_refused(address: str, op: str, args: dict[str, Any], words: str) -> None:
    with socket(address) as connection:
        refused = ask(connection, op, stream="cam1", **args)
        assert refused["code"] == "bad_request"
        assert words in refused["message"]


def test_streams_that_are_not_there_are_not_looked_for(address: str, daemon: FakeDaemon) -> None:
    with socket(address) as connection:
        connection.send(json.dumps({"kind": "look", "streams": {"nowhere": 320, "cam1": 320}}))
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/320/"))
        assert not daemon.publisher.wanted("frames/nowhere/320/")


def test_a_stream_is_looked_at_once_a_status_has_it(daemon: FakeDaemon) -> None:
    with page_server(daemon.control.endpoint) as address, socket(address) as connection:
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 640}}))
        assert ask(connection, "objects.list")["kind"] == "answer"  # so it was read
        assert not daemon.publisher.wanted("frames/cam1/640/")
        wait_until(lambda: is_looked_at(daemon, "640"))


def is_looked_at(daemon: FakeDaemon, width: str) -> bool:
    """Says the status as well, again and again: one before the page has subscribed is lost."""
    publish_status(daemon)
    return daemon.publisher.wanted(f"frames/cam1/{width}/")


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page's server, of no daemon, that waits a tenth as long for requests."""
    program = (
        "from tracker.cli import start; from tracker.web import patience; patience.REQUEST_S = 1; start.trackerd()"
    )
    nobody = f"ipc://{tmp_path_factory.mktemp('nobody')}/control"
    with page_server(nobody, trackerd=[sys.executable, "-c", program]) as address:
        yield address


def test_who_sends_no_request_is_hung_up_on(impatient: str) -> None:
    place = urlsplit(impatient)
    begun = (
        b"",
        b"GET / HTTP/1.1\r\nHost: ",
        b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\ntok",
    )
    with ExitStack() as stack:
        silent = [stack.enter_context(create_connection((place.hostname, place.port), timeout=60)) for _ in begun]
        for connection, data in zip(silent, begun, strict=True):
            connection.sendall(data)
        for connection in silent:
            while connection.recv(4096):
                pass


def test_connections_are_bounded_and_the_page_goes_on(impatient: str) -> None:
    place = urlsplit(impatient)
    with ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS + 50):
            with suppress(ConnectionError):
                stack.enter_context(create_connection((place.hostname, place.port), timeout=60))
        wait_until(lambda: answers(impatient))  # once those that say nothing were hung up on


def answers(address: str) -> bool:
    try:
        return get(address)[0] == 200
    except OSError:
        return False


def test_a_picture_brings_the_tracks_of_its_own_frame(address: str, daemon: FakeDaemon) -> None:
    with socket(address) as connection:
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 300}}))
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/320/"))
        publish(daemon, 8)
        head, jpeg = receive_picture(connection)
        assert (head["frame"]["frame"], head["tracks"]["frame"], jpeg) == (8, 8, b"\xff\xd8 8")
        connection.send(json.dumps({"kind": "drawn", "stream": "cam1"}))
        publish(daemon, 9, with_tracks=False)  # its tracks were lost on the way
        assert receive_picture(connection)[0]["tracks"] is None


def test_nothing_is_asked_of_the_daemon_while_nobody_looks(address: str, daemon: FakeDaemon) -> None:
    with socket(address) as connection:
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 700}}))
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/1280/"))
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 1300}}))
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/full/"))
        wait_until(lambda: not daemon.publisher.wanted("frames/cam1/1280/"))
    wait_until(lambda: not daemon.publisher.wanted("frames/cam1/full/"))
    wait_until(lambda: not daemon.publisher.wanted("tracks/cam1/"))


def test_a_slow_browser_gets_the_newest_picture_not_a_queue(address: str, daemon: FakeDaemon) -> None:
    with socket(address) as connection:
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 320}}))
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/320/"))
        publish(daemon, 0)
        assert receive_picture(connection)[0]["frame"]["frame"] == 0
        for frame in range(1, 40):
            publish(daemon, frame)
        with pytest.raises(TimeoutError):  # nothing was confirmed, so nothing more is on its way
            connection.recv(timeout=0.5)
        connection.send(json.dumps({"kind": "drawn", "stream": "cam1"}))
        assert receive_picture(connection)[0]["frame"]["frame"] == 39


def test_behind_a_slow_link_pictures_come_in_smaller_widths(daemon: FakeDaemon) -> None:
    """Two seconds for a picture at least, however busy this machine is."""
    with (
        page_server(daemon.control.endpoint) as address,
        proxied(urlsplit(address).port or 0, bytes_s=8000) as proxy,
        socket(f"http://127.0.0.1:{proxy.port}/") as connection,
    ):
        connection.send(json.dumps({"kind": "look", "streams": {"cam1": 1300}}))
        wait_until(lambda: is_looked_at(daemon, "full"))
        message = FrameMessage(stream="cam1", frame=1, time=1.0, size=(64, 48), format="jpeg")
        daemon.publisher.publish("frames/cam1/full/", message, bytes(16_000))
        assert len(receive_picture(connection)[1]) == 16_000
        connection.send(json.dumps({"kind": "drawn", "stream": "cam1"}))
        wait_until(lambda: not daemon.publisher.wanted("frames/cam1/full/"))
        smaller = ("frames/cam1/640/", "frames/cam1/320/")
        wait_until(lambda: any(map(daemon.publisher.wanted, smaller)))


@pytest.fixture
def own_daemon() -> Iterator[FakeDaemon]:
    """One that no other page listens to."""
    daemon = FakeDaemon()
    yield daemon
    daemon.stop()


def test_of_statuses_a_browser_that_reads_nothing_gets_the_newest(own_daemon: FakeDaemon) -> None:
    many = [structs.replace(STREAM, stream=f"cam{i}", error="x" * 1000) for i in range(100)]
    sent = 60
    with (
        page_server(own_daemon.control.endpoint) as address,
        deaf_socket(address) as deaf,
        socket(address) as other,
    ):
        wait_until(lambda: own_daemon.publisher.wanted("status/"))
        for time in range(sent):
            publish_status(own_daemon, many, time=time)
        statuses_until(other, sent - 1)
        assert len(statuses_until(deaf, sent - 1)) < sent / 2


def raw_socket(address: str) -> Socket:
    """A WebSocket whose peer reads what it wants to."""
    place = urlsplit(address)
    raw = Socket()
    raw.settimeout(20)
    raw.setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
    raw.connect((place.hostname, place.port))
    lines = (
        *("GET /ws HTTP/1.1", f"Host: {place.netloc}", f"Origin: {address.rstrip('/')}", "Connection: Upgrade"),
        *("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""),
    )
    raw.sendall("\r\n".join(lines).encode())
    assert raw.recv(12) == b"HTTP/1.1 101"
    return raw


def text_frame(message: dict[str, Any]) -> bytes:
    """With a mask of zeros, so that it is readable."""
    text = json.dumps(message).encode()
    return bytes([0x81, 0x80 | len(text)]) + bytes(4) + text


def test_who_pings_and_reads_nothing_is_cut_off(address: str) -> None:
    """Each ping is answered, read or not: without a bound that fills the server's memory."""
    pings = (b"\x89\xfd" + bytes(4 + 125)) * 500
    sent = 0
    with raw_socket(address) as raw, suppress(ConnectionError):
        while sent < 2**27:
            raw.sendall(pings)
            sent += len(pings)
    assert sent < 2**27


def test_a_browser_that_is_heard_of_no_more_is_let_go(own_daemon: FakeDaemon) -> None:
    """As where its machine sleeps: a close alone would wait for what was sent before, for as long as TCP tries."""
    program = (
        "from tracker.cli import start; from tracker.web import server; server.UNHEARD_MS = 500; start.trackerd()"
    )
    many = [structs.replace(STREAM, stream=f"cam{i}", error="x" * 1000) for i in range(100)]

    def is_let_go() -> bool:
        publish_status(own_daemon, many)
        return not own_daemon.publisher.wanted("frames/cam1/320/")

    with (
        page_server(own_daemon.control.endpoint, trackerd=[sys.executable, "-c", program]) as address,
        raw_socket(address) as raw,
    ):
        wait_until(lambda: own_daemon.publisher.wanted("status/"))
        raw.sendall(text_frame({"kind": "look", "streams": {"cam1": 320}}))
        wait_until(lambda: not is_let_go())
        wait_until(is_let_go)


def statuses_until(connection: ClientConnection, last: float) -> list[float]:
    """Times of the statuses that come, up to that one."""
    times = [receive(connection, "status")["status"]["time"]]
    while times[-1] != last:
        times.append(receive(connection, "status")["status"]["time"])
    return times


def test_many_viewers_share_one_subscription(address: str, daemon: FakeDaemon) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(socket(address)) for _ in range(5)]
        for connection in connections:
            connection.send(json.dumps({"kind": "look", "streams": {"cam1": 320}}))
            assert ask(connection, "objects.list")["kind"] == "answer"  # so it was read
        wait_until(lambda: daemon.publisher.wanted("frames/cam1/320/"))
        publish(daemon, 3)
        assert {receive_picture(connection)[1] for connection in connections} == {b"\xff\xd8 3"}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        b"{}",
        '{"kind":"call","id":1,"op":"x","args":' + "[" * 5000,
        '{"kind":"look","streams":{"../x":1}}',
        '{"kind":"shout"}',
    ],
)
def test_what_is_no_message_ends_the_connection(address: str, text: str | bytes) -> None:
    with socket(address) as connection:
        connection.send(text)
        with pytest.raises(ConnectionClosed, match="1008"):
            read_to_the_end(connection)


def test_a_daemon_that_is_back_before_its_silence_is_noticed_is_told_anew() -> None:
    """Else the pages would go on saying that it stops, and name the model and version of before."""
    with ExitStack() as stack:
        before = FakeDaemon("i1")
        control, publish = before.control.endpoint, before.publisher.endpoint
        try:
            connection = stack.enter_context(socket(stack.enter_context(page_server(control))))
            wait_until(lambda: before.publisher.wanted("status/"))
            publish_status(before)
            receive(connection, "status")
        finally:
            before.stop()
        after = FakeDaemon("i2", control, publish)
        stack.callback(after.stop)
        after.answers["server.info"] = structs.replace(after.answers["server.info"], version="1")
        wait_until(lambda: after.publisher.wanted("status/"))
        publish_status(after)
        while (message := receive(connection, "daemon"))["info"] is None or message["info"]["version"] != "1":
            pass


def test_a_daemon_that_is_away_is_said_at_once_and_found_again(tmp_path: Path) -> None:
    with page_server(f"ipc://{tmp_path}/control") as address, socket(address) as connection:
        message = receive(connection, "daemon")
        assert message["info"] is None
        assert ask(connection, "objects.list")["kind"] == "refused"
