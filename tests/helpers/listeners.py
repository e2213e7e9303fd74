"""Somebody who listens to one stream of a fleet, and sees that what must hold of all its messages does."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from helpers.fleets import START_S
from tracker.client import Client, Message, Subscription
from tracker.protocol.messages import Tracks
from tracker.protocol.placement import Token


class Listener:
    """One subscription, and what must hold of all its messages: tokens and frame numbers only grow."""

    def __init__(self, subscription: Subscription[Message]) -> None:
        self._subscription = subscription
        self._token, self._frame = Token(0, 0), -1
        self.next()

    def next(self) -> Message:
        message = next(self._subscription)
        assert isinstance(message.body, Tracks)
        token = Token.parse(owner_of(message))
        assert token >= self._token
        assert message.body.frame > self._frame
        self._token, self._frame = token, message.body.frame
        return message

    def until_moved(self) -> Message:
        while not (message := self.next()).moved:
            pass
        return message


@contextmanager
def listening(client: Client, stream: str) -> Iterator[Listener]:
    with client.subscribe(stream, ("tracks",), timeout_s=START_S) as subscription:
        yield Listener(subscription)


def owner_of(message: Message) -> str:
    assert isinstance(message.body, Tracks)
    assert isinstance(message.body.owner, str)
    return message.body.owner


class Ear:
    """Listens to a stream in a thread of its own; the longest silence, and who was heard."""

    def __init__(self, nats: str, stream: str) -> None:
        self.owners: list[str] = []
        self.longest_s = 0.0
        self.gaps_s: list[float] = []  # as it was told them, with each new owner
        self.messages = 0
        self.failure: BaseException | None = None
        self._client = Client(fleet=nats)
        self._stream = stream
        self._stopping = threading.Event()
        self._heard = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"ear-{stream}")
        self._thread.start()
        assert self._heard.wait(START_S)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()
        self._client.close()
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            with self._client.subscribe(self._stream, ("tracks",), timeout_s=START_S) as subscription:
                self._listen(Listener(subscription))
        except BaseException as failure:  # noqa: BLE001 - `stop` raises it
            self.failure = failure
        self._heard.set()

    def _listen(self, listener: Listener) -> None:
        last_s = time.monotonic()
        while not self._stopping.is_set():
            message = listener.next()
            now_s = time.monotonic()
            self.longest_s, last_s = max(self.longest_s, now_s - last_s), now_s
            self.messages += 1
            if message.moved:
                self.gaps_s.append(message.gap_s)
            owner = owner_of(message)
            if not self.owners or self.owners[-1] != owner:
                self.owners.append(owner)
            self._heard.set()


@contextmanager
def ear(nats: str, stream: str) -> Iterator[Ear]:
    """What it found is complete after the block."""
    heard = Ear(nats, stream)
    try:
        yield heard
    finally:
        heard.stop()
