"""A thread of its own that knows where a fleet's streams are, for programs with an event loop and without."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tracker.client.nats_options import NatsOptions
from tracker.client.whereabouts import Whereabouts
from tracker.protocol.placement import Where

A = TypeVar("A")


class Directory:
    """It connects at once; what is asked before that has succeeded waits for it, or raises its ConfigError. Safe in
    any thread. `future` for those who must not block, `wait` for the others."""

    def __init__(self, options: NatsOptions) -> None:
        self._whereabouts = Whereabouts()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fleet", daemon=True)
        self._thread.start()
        connecting = self._whereabouts.connect(options)
        self._connected = asyncio.run_coroutine_threadsafe(connecting, self._loop)

    def close(self) -> None:
        """Who still waits for an answer is cancelled."""
        if not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connected(self) -> None:
        """Wait for it. Raises ConfigError."""
        self._connected.result()

    def known(self, stream: str) -> Where:
        """As heard last of a stream that was asked for before. Raises UnknownStream where it is nowhere."""
        return self._whereabouts.known(stream)

    def wait(self, ask: Callable[[Whereabouts], Awaitable[A]]) -> A:
        """Raises what `ask` raises, and ConfigError where there is no fleet."""
        return self.future(ask).result()

    def future(self, ask: Callable[[Whereabouts], Awaitable[A]]) -> "concurrent.futures.Future[A]":
        async def asked() -> A:
            await asyncio.shield(asyncio.wrap_future(self._connected))  # others wait for it too
            return await ask(self._whereabouts)

        return asyncio.run_coroutine_threadsafe(asked(), self._loop)

    async def _finish(self) -> None:
        is_connected = self._connected.done() and self._connected.exception() is None
        if is_connected:
            await self._whereabouts.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)


def directory_of(fleet: str | NatsOptions, *, wait: bool) -> Directory:
    """Of a NATS server's URL, or with credentials. With `wait` it is connected; else what is asked first raises
    ConfigError where there is no fleet. Raises ConfigError where nats-py is not there."""
    options = NatsOptions.of(fleet) if isinstance(fleet, str) else fleet
    options.check()
    directory = Directory(options)
    try:
        if wait:
            directory.connected()
    except BaseException:
        directory.close()
        raise
    return directory
