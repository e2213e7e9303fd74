"""What both clients do alike: where the daemon is, sockets to it, and how long silence is borne."""

import math
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import zmq

from tracker.client.messages import subscriptions
from tracker.errors import BadRequest, ConfigError, DaemonGone, Forbidden, Timeout, UnknownStream
from tracker.protocol.keys import KeyPair, read_pair
from tracker.protocol.replies import StreamList

CONTROL = "tcp://127.0.0.1:5570"
TCP = re.compile(r"tcp://(.+):[0-9]+")  # its host
EVERY_ADDRESS = re.compile(r"tcp://(?:\*|0\.0\.0\.0|\[::\]|\[::ffff:0\.0\.0\.0\]):([0-9]+)")  # its port
TIMEOUT_S = 10.0
MAX_TIMEOUT_S = 1_000_000
TOPICS = ("tracks", "events")
SILENCE_S = 3.0  # without a message: then the daemon is asked whether it and the stream are there still
# A daemon's machine that went away silently is connected to again after so long. By TCP: ZeroMQ's own heartbeats
# end the process where the daemon goes while a program does not read (an assertion in libzmq 4.3.5).
KEEPALIVE_IDLE_S, KEEPALIVE_INTERVAL_S, KEEPALIVE_TRIES = 1, 1, 3
RECEIVE_HWM = 1000  # messages kept while the program is busy; after that some are lost, and counted

S = TypeVar("S", bound="zmq.Socket[Any]")


def control_endpoint(given: str | None) -> str:
    """The one given; else what TRACKER_CONTROL says; else the default."""
    return given or os.environ.get("TRACKER_CONTROL") or CONTROL


def publish_endpoint(given: str | None) -> str | None:
    """The one given, or what TRACKER_PUBLISH says. None: the daemon knows it."""
    return given or os.environ.get("TRACKER_PUBLISH") or None


def as_reached(bound: str, reached: str) -> str:
    """Where a daemon's socket is, by what it says and by where another one of that machine is reached: one that is
    bound on every address says none, and to another machine that is its own."""
    port, host = EVERY_ADDRESS.fullmatch(bound), TCP.fullmatch(reached)
    return bound if port is None or host is None else f"tcp://{host[1]}:{port[1]}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the client is to the daemon: its key, where the daemon asks for one, and a token that all its connections
    have, so that what one asked for another may cancel."""

    key: KeyPair | None = None
    token: bytes = field(default_factory=lambda: os.urandom(16), repr=False)

    def prove(self, socket: "zmq.Socket[Any]") -> None:
        if self.key is not None:
            socket.curve_publickey = self.key.public.encode()
            socket.curve_secretkey = self.key.secret.encode()
            socket.curve_serverkey = (self.key.server or "").encode()


def identity(key: str | Path | None, *, in_fleet: bool = False) -> Identity:
    """With the key file given, or that TRACKER_KEY names. In a fleet each box says its daemon's key. Raises
    ConfigError."""
    path = key or os.environ.get("TRACKER_KEY")
    if not path:
        return Identity()
    pair = read_pair(Path(path))
    if pair.server is None and not in_fleet:
        raise ConfigError([f"{path}: has no line 'server' with the daemon's public key"])
    return Identity(pair)


def requester(context: "zmq.Context[S]", endpoint: str, who: Identity) -> S:
    """Raises ConfigError."""
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.setsockopt(zmq.IDENTITY, who.token + os.urandom(8))
    who.prove(socket)
    _connect(socket, endpoint)
    return socket


def subscriber(
    context: "zmq.Context[S]", endpoint: str, stream: str | None, topics: Iterable[str], who: Identity
) -> S:
    """Raises ConfigError; ValueError for what is no topic."""
    prefixes = subscriptions(stream, topics)
    socket = context.socket(zmq.SUB)
    socket.linger = 0
    socket.rcvhwm = RECEIVE_HWM
    who.prove(socket)
    socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, KEEPALIVE_IDLE_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_INTVL, KEEPALIVE_INTERVAL_S)
    socket.setsockopt(zmq.TCP_KEEPALIVE_CNT, KEEPALIVE_TRIES)
    _connect(socket, endpoint)
    for prefix in prefixes:
        socket.subscribe(prefix)
    return socket


def check_allowed(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    """Raises Forbidden where the daemon refused a subscriber's key: ZeroMQ never connects such a socket again."""
    refusals = socket.get_monitor_socket()
    if int(refusals.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
        raise Forbidden(
            f"{endpoint} refuses this key: let it listen (trackerd keys allow … --for publish), and subscribe again"
        )


def close_with_monitor(socket: "zmq.Socket[Any]") -> None:
    """A monitor that was asked for is a socket of its own, and stays open else."""
    if socket.closed:
        return
    refusals = socket.get_monitor_socket()
    socket.disable_monitor()
    refusals.close(linger=0)
    socket.close()


def _connect(socket: "zmq.Socket[Any]", endpoint: str) -> None:
    socket.ipv6 = "[" in endpoint
    try:
        socket.connect(endpoint)
    except zmq.ZMQError:
        close_with_monitor(socket)
        raise ConfigError(
            [
                f"{endpoint!r} is not where a daemon can be; give one like {CONTROL} or ipc:///run/tracker/control.sock"
            ]
        ) from None


def checked_timeout(timeout_s: float) -> float:
    """Raises BadRequest for what a socket can't wait for: not a number, without end, or no time at all."""
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise BadRequest(
            f"timeout_s: {timeout_s:g} where seconds are taken, more than 0 and at most {MAX_TIMEOUT_S}"
        )
    return timeout_s


def no_reply(endpoint: str, timeout_s: float, who: Identity) -> Timeout:
    key = "" if who.key is None else ", and may this key ask it"
    return Timeout(f"no reply from {endpoint} within {timeout_s:g} s; is the daemon running there{key}?")


def check_stream(stream: str | None, there: StreamList) -> None:
    """Raises UnknownStream where `stream` is named and not among those that are `there`."""
    names = sorted(record.stream for record in there.streams)
    if stream is not None and stream not in names:
        raise UnknownStream(f"stream: no stream is called {stream!r}; there: {', '.join(names) or 'none'}")


class Silence:
    """How long a subscription has heard nothing, and what follows of it."""

    def __init__(self, endpoint: str, timeout_s: float | None) -> None:
        self.endpoint = endpoint
        self._timeout_s = math.inf if timeout_s is None else checked_timeout(timeout_s)
        self._look_at_s = time.monotonic() + SILENCE_S
        self._give_up_at_s = math.inf

    def begin(self) -> None:
        """The program waits for a message from now on."""
        self._give_up_at_s = time.monotonic() + self._timeout_s

    def end(self) -> None:
        """A message came, or the daemon answered."""
        self._look_at_s = time.monotonic() + SILENCE_S

    def wait_ms(self) -> int:
        """Until something is due."""
        due_s = min(self._look_at_s, self._give_up_at_s)
        return max(0, math.ceil((due_s - time.monotonic()) * 1000))

    def look_is_due(self) -> bool:
        """Whether to ask the daemon. Raises Timeout where the program wants to wait no longer."""
        now_s = time.monotonic()
        if now_s >= self._give_up_at_s:
            raise Timeout(f"no message from {self.endpoint} within {self._timeout_s:g} s")
        return now_s >= self._look_at_s

    def gone(self, control: str) -> DaemonGone:
        self.end()  # who goes on waiting is told again after as long a silence
        return DaemonGone(f"no message from {self.endpoint}, and {control} does not answer: the daemon is gone")
