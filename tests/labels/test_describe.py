"""Objects in words, by a real HTTP server that speaks the protocol, and by one that does not behave."""

import contextlib
import json
import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.tracking import Talk, blobs, configuration, serving, wait_until
from helpers.vision_models import save_tiny_vision_model, vision_server
from tracker.config import DescribeConfig
from tracker.errors import ConfigError, Unavailable
from tracker.labels import describer
from tracker.labels.describer import Describer, Question
from tracker.labels.provider import MAX_TEXT, Provider, plain, secret_of

pytest.importorskip("openai")

RESTING = [120, 90]
SECRET = "sk-a-secret-of-nobody"


class Server:
    """`mode` says how it answers; `asked` keeps what it was asked."""

    def __init__(self) -> None:
        self.mode = "good"
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.released = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.append(json.loads(body))
                outer.keys.append(self.headers["Authorization"])
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"

    def answer(self, http: BaseHTTPRequestHandler) -> None:
        text = "A white\x1b[31m square,\nat rest. \u202e"
        body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()
        if self.mode == "500":
            http.send_error(500, f"the key {SECRET} is bad")
            return
        if self.mode == "hang":
            self.released.wait(30)
        if self.mode == "rubbish":
            body = b"<html>"
        if self.mode == "silent":
            body = b'{"choices": []}'
        if self.mode == "large":
            body = b" " * 10_000_000 + body
        http.send_response(200)
        http.send_header("Content-Type", "application/json")
        http.send_header("Content-Length", str(len(body) + 10 * (self.mode == "cut off")))
        http.end_headers()
        with contextlib.suppress(OSError):  # the other side had enough
            http.wfile.write(body)

    def close(self) -> None:
        self.released.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def config(server: Server, **more: Any) -> dict[str, Any]:
    return {"url": server.url, "model": "tiny", "timeout_s": 20, **more}


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return blobs(tmp_path / "blobs.mp4")


def test_who_asks_is_told_and_the_record_says_it_too(server: Server, film: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("DESCRIBE_KEY", SECRET)
    describe = config(server, api_key_env="DESCRIBE_KEY", per_label={"box": "What is in the box?"})
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.subscribe("events/cam/")
        talk.ask("objects.add", stream="cam", points=[RESTING], label="box")
        found = talk.ask("objects.describe", stream="cam", object=1)
        assert (found["text"], found["model"]) == ("A white [31m square, at rest.", "tiny")
        told = talk.receive_until(lambda m: m.get("event") == "object_described")
        assert (told["object"], told["message"]) == (1, found["text"])
        (record,) = talk.ask("objects.list")["objects"]
        assert record["description"]["text"] == found["text"]
        assert record["label"] == "box"
        talk.ask("objects.describe", stream="cam", object=1, question="what is written on it?")
    first, second = (asked["messages"][0]["content"] for asked in server.asked)
    assert [part["text"] for part in (first[0], second[0])] == ["What is in the box?", "what is written on it?"]
    assert 2 <= len(first) - 1 <= 4
    assert all(part["image_url"]["url"].startswith("data:image/jpeg;base64,") for part in first[1:])
    assert set(server.keys) == {f"Bearer {SECRET}"}


@pytest.mark.parametrize("mode", ["500", "rubbish", "silent", "large", "cut off"])
def test_a_server_that_fails_costs_a_line(server: Server, film: Path, mode: str, caplog: Any) -> None:
    server.mode = mode
    key = film.parent / "key"
    key.write_text(SECRET)
    with (
        caplog.at_level(logging.DEBUG),
        serving(
            configuration(
                streams={"cam": {"url": str(film), "loop": True}}, describe=config(server, api_key_file=str(key))
            )
        ) as talk,
    ):
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        assert talk.refused("objects.describe", stream="cam", object=1)[0] == "unavailable"
        code, message = talk.refused("objects.describe", stream="cam", object=1)
        assert code == "unavailable"
        assert "asked again in" in message
        assert len(server.asked) == 1
        follows(talk)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("tracker")]
    assert any("was not described" in line for line in told)
    assert SECRET not in "".join(told)
    assert SECRET not in caplog.text


def follows(talk: Talk) -> None:
    (before,) = talk.ask("objects.list")["objects"]
    wait_until(lambda: talk.ask("objects.list")["objects"][0]["age"] > before["age"] + 3)


def test_a_server_that_hangs_holds_up_nothing(server: Server, film: Path) -> None:
    server.mode = "hang"
    describe = config(server, timeout_s=0.5, when=["stable"])
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        wait_until(lambda: server.asked)
        follows(talk)
    server.released.set()


def test_what_is_stable_is_described_once(server: Server, film: Path) -> None:
    describe = config(server, when=["stable"])
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        wait_until(lambda: "description" in talk.ask("objects.list")["objects"][0])
        follows(talk)
    assert len(server.asked) == 1


def test_the_budget_of_an_hour_ends(server: Server, film: Path) -> None:
    describe = config(server, per_hour=1)
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        talk.ask("objects.describe", stream="cam", object=1)
        code, message = talk.refused("objects.describe", stream="cam", object=1)
        assert code == "at_capacity"
        assert "per_hour" in message


def test_without_a_server_it_says_so(film: Path) -> None:
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}})) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        code, message = talk.refused("objects.describe", stream="cam", object=1)
        assert code == "unavailable"
        assert "describe.url" in message


def test_a_server_that_is_not_there() -> None:
    provider = Provider(DescribeConfig(url="http://127.0.0.1:9/v1", model="m", timeout_s=2))
    begun_s = time.monotonic()
    with pytest.raises(Unavailable, match="cannot be asked"):
        provider.ask("what?", [b"jpeg"])
    assert time.monotonic() - begun_s < 20
    provider.close()


class Down:
    """A provider whose server never answers."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, *_: Any) -> str:
        self.asked += 1
        raise Unavailable("down")

    def close(self) -> None:
        pass


@contextlib.contextmanager
def describing(provider: Down, monkeypatch: Any, back_off_s: tuple[float, float]) -> Iterator[Describer]:
    monkeypatch.setattr(describer, "BACK_OFF_S", back_off_s)
    monkeypatch.setattr(describer, "pictures_of", lambda moments, _: [b"jpeg"] if moments else seen_nowhere())
    config = DescribeConfig(url="http://127.0.0.1:9/v1", model="m", per_hour=10_000)
    describing = Describer(config, lambda: None, Counter(), lambda _: provider)
    describing.start()
    yield describing
    describing.stop()


def seen_nowhere() -> list[bytes]:
    raise Unavailable("cannot be seen")


def asked(told: "queue.SimpleQueue[str]", moments: Any = (1,)) -> Question:
    nobody: Any = SimpleNamespace(id=7)
    return Question(nobody, 0, "what?", moments, fail=lambda error: told.put(error.message))


def test_questions_that_waited_while_one_failed_are_not_asked(monkeypatch: Any) -> None:
    provider, told = Down(), queue.SimpleQueue[str]()
    with describing(provider, monkeypatch, (100.0, 300.0)) as describes:
        describes.offer(asked(told))
        assert told.get(timeout=30) == "down"
        with pytest.raises(Unavailable, match="asked again in"):
            describes.offer(asked(told))
        describes._questions.put(asked(told))  # as if it had been offered before that
        assert told.get(timeout=30) == "the describing server failed; ask again later"
    assert provider.asked == 1


def test_a_server_that_is_down_for_days_is_asked_on_and_every_question_is_answered(monkeypatch: Any) -> None:
    provider, told = Down(), queue.SimpleQueue[str]()
    with describing(provider, monkeypatch, (0.0, 0.0)) as describes:
        for number in range(1, 1101):
            describes.offer(asked(told))
            assert told.get(timeout=30) == "down"
            assert provider.asked == number


def test_an_object_that_cannot_be_seen_is_not_the_servers_fault(monkeypatch: Any) -> None:
    provider, told = Down(), queue.SimpleQueue[str]()
    with describing(provider, monkeypatch, (100.0, 300.0)) as describes:
        for _ in range(2):
            describes.offer(asked(told, moments=()))
            assert told.get(timeout=30) == "cannot be seen"
    assert provider.asked == 0


@pytest.fixture(scope="module")
def real_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """`transformers serve` with a tiny random model; its URL, and the model's folder."""
    for package in ("fastapi", "accelerate"):
        pytest.importorskip(package, reason="transformers serve needs the group serving: uv sync --group serving")
    folder = tmp_path_factory.mktemp("vision")
    save_tiny_vision_model(folder)
    with vision_server(folder) as url:
        yield url, folder


def test_a_real_server_with_a_model_that_sees(real_server: tuple[str, Path], film: Path) -> None:
    """What it says is nonsense, but it came out of pictures and a question by the real protocol."""
    url, model = real_server
    describe = {"url": url, "model": str(model), "max_tokens": 12, "timeout_s": 120}
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        found = talk.ask("objects.describe", stream="cam", object=1, question="what is written on it?")
        assert (found["model"], found["text"].isprintable()) == (str(model), True)
        assert 0 < len(found["text"]) <= 12
        wait_until(lambda: "description" in talk.ask("objects.list")["objects"][0])
        assert talk.ask("objects.list")["objects"][0]["description"]["text"] == found["text"]
    assert b'"POST /v1/chat/completions HTTP/1.1" 200' in (model / "log").read_bytes()


def test_a_model_that_the_real_server_has_not_is_a_line(real_server: tuple[str, Path], film: Path) -> None:
    describe = {"url": real_server[0], "model": "not/there", "timeout_s": 120}
    with serving(configuration(streams={"cam": {"url": str(film), "loop": True}}, describe=describe)) as talk:
        talk.wait_for_frame(0)
        talk.ask("objects.add", stream="cam", points=[RESTING])
        assert talk.refused("objects.describe", stream="cam", object=1)[0] == "unavailable"
        follows(talk)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("two\nlines", "two lines"),
        ("\x1b]0;title\x07x", "]0;title x"),
        ("a" * 5000, "a" * MAX_TEXT),
        ("\u202eab", "ab"),
    ],
)
def test_text_from_a_model_is_data(text: str, kept: str) -> None:
    assert plain(text) == kept


def test_keys_that_are_not_there_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NOT_SET"):
        secret_of(DescribeConfig(api_key_env="NOT_SET_ANYWHERE"))
    with pytest.raises(ConfigError, match="cannot be read"):
        secret_of(DescribeConfig(api_key_file=str(tmp_path / "gone")))
    assert secret_of(DescribeConfig()) is None
