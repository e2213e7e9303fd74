"""Tracking's rate with all that is seen beside it against without: looks by appearance and by a CLIP of ViT-B/32's
size with random weights and guesses, as often as they are by default, a watch list, zones, and descriptions of what
is stable or lost by a stub of a provider.

Two daemons follow the pond's fish with the same model. Only one of them has an open stream at a time, in turn for
some seconds each, so that other work on the machine meets both. Rates are processed frames a second by the clock,
in the median; `cpu ms a frame` is processor time of the whole daemon. On a busy machine the main loop's, which is
the model, differs by a tenth from run to run; so that of all other threads is said too, torch's own among them.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from subprocess import Popen
from typing import Any

import psutil
import yaml
from msgspec import UNSET

from benches.disk import TRACKERD, add_fish, pond_film
from benches.report import Row
from tracker.client import Client
from tracker.config import ZoneConfig
from tracker.errors import Unavailable

START_S = 300.0
SETTLE_S = 1.0  # after a stream is opened
NEVER_S = 1e6
ZONES = {
    "inlet": ZoneConfig(line=((320, 20), (320, 340))),
    "reeds": ZoneConfig(polygon=[(420, 40), (620, 40), (620, 200), (420, 200)], loiter_s=2),
}


@dataclass(frozen=True)
class Daemon:
    client: Client
    process: psutil.Process


@dataclass(frozen=True)
class Rate:
    frames_s: float
    cpu_ms: float  # a frame, of the whole daemon
    beside_ms: float  # of that, of its threads beside the main loop


def rows(args: argparse.Namespace) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        film = pond_film(folder / "pond.mp4")
        random_clip(folder / "clip")
        labels = {"model": str(folder / "clip"), "device": "cpu", "texts": ["a koi", "a carp", "a stone"]}
        describe = {"url": stack.enter_context(provider()), "model": "stub", "when": ["stable", "lost"]}
        with_all = stack.enter_context(daemon(folder / "on", film, labels=labels, describe=describe))
        without = stack.enter_context(daemon(folder / "off", film, looks={"every_s": NEVER_S}))
        look_around(with_all.client)
        pairs = [(measured(with_all, args.seconds), measured(without, args.seconds)) for _ in range(args.runs)]
        found = with_all.client.similar(text="a fish").hits
        entries = with_all.client.objects("pond").objects
        yield _row(pairs, len(found), sum(entry.description is not UNSET for entry in entries))


def _row(pairs: list[tuple[Rate, Rate]], found: int, described: int) -> Row:
    on, off = zip(*pairs, strict=True)
    rate_on, rate_off = (median(one.frames_s for one in side) for side in (on, off))
    cpu_on, cpu_off = (median(one.cpu_ms for one in side) for side in (on, off))
    beside_on, beside_off = (median(one.beside_ms for one in side) for side in (on, off))
    shares = sorted(one.frames_s / other.frames_s for one, other in pairs)
    return {
        "runs": len(pairs),
        "frames/s with all of it": round(rate_on, 2),
        "without": round(rate_off, 2),
        "share": round(rate_on / rate_off, 3),
        "shares of single runs": f"{shares[0]:.2f} to {shares[-1]:.2f}",
        "cpu ms a frame with": round(cpu_on, 1),
        "cpu ms without": round(cpu_off, 1),
        "share by cpu": round(cpu_off / cpu_on, 3),
        "beside the main loop, with": round(beside_on, 1),
        "and without": round(beside_off, 1),
        "share by that": round(cpu_off / (cpu_off + beside_on - beside_off), 3),
        "described": described,
        "objects that CLIP found": found,
    }


@contextmanager
def daemon(folder: Path, film: Path, **sections: Any) -> Iterator[Daemon]:
    """One that follows all fish, and then pauses."""
    folder.mkdir()
    endpoint = f"ipc://{folder}/control"
    settings = {
        "control": {"endpoint": endpoint},
        "publish": {"endpoint": f"ipc://{folder}/publish"},
        "persist": {"dir": str(folder / "state")},
        "streams": {"pond": {"url": str(film), "loop": True}},
        **sections,
    }
    config = folder / "trackerd.yaml"
    config.write_text(yaml.safe_dump(settings))
    with Popen([TRACKERD, "serve", "-c", config]) as process:
        try:
            with Client(endpoint, timeout_s=START_S) as client:
                add_fish(client)
                while any(entry.state == "pending" for entry in client.objects("pond").objects):
                    time.sleep(0.1)
                client.pause_stream("pond")
                yield Daemon(client, psutil.Process(process.pid))
        finally:
            process.terminate()


class Stub(BaseHTTPRequestHandler):
    """Answers whatever it is asked as a provider would."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "A fish."}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "stub", "choices": [choice]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def provider() -> Iterator[str]:
    """Its base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def look_around(client: Client) -> None:
    """A watch list, and zones; once CLIP is there."""
    while not _reads_texts(client):
        time.sleep(0.5)
    for name, zone in ZONES.items():
        client.set_zone("pond", name, zone)
    for fish in client.objects("pond").objects:
        client.watch_for(f"fish {fish.object}", stream="pond", object=fish.object)


def _reads_texts(client: Client) -> bool:
    try:
        client.similar(text="a fish")
    except Unavailable:
        return False
    return True


def measured(daemon: Daemon, seconds: float) -> Rate:
    """Of the frames that the model takes while the stream is open."""
    daemon.client.resume_stream("pond")
    time.sleep(SETTLE_S)
    began_s, (cpu_s, main_s), before = time.monotonic(), spent_s(daemon.process), _processed(daemon.client)
    time.sleep(seconds)
    frames = max(1, _processed(daemon.client) - before)
    took_s, (cpu_then_s, main_then_s) = time.monotonic() - began_s, spent_s(daemon.process)
    daemon.client.pause_stream("pond")
    all_s, loop_s = cpu_then_s - cpu_s, main_then_s - main_s
    return Rate(frames / took_s, 1000 * all_s / frames, 1000 * (all_s - loop_s) / frames)


def spent_s(process: psutil.Process) -> tuple[float, float]:
    """Processor seconds of the process, and of its main loop."""
    times = process.cpu_times()
    main = next(thread for thread in process.threads() if thread.id == process.pid)
    return float(times.user + times.system), float(main.user_time + main.system_time)


def _processed(client: Client) -> int:
    """Frames that every object has seen since it was added."""
    return min(entry.age for entry in client.objects("pond").objects)


def random_clip(path: Path) -> None:
    """Pictures by a ViT-B/32, as large as OpenAI's; texts by a toy. The weights are random: they cost the same."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    small = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    text = {"vocab_size": len(words), "max_position_embeddings": 40, **small, **ends}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(path)  # its picture side is ViT-B/32 by default
    vocabulary = {word: place for place, word in enumerate(words)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=40).save_pretrained(path)
    CLIPImageProcessor().save_pretrained(path)
