"""A network that can be cut: TCP connections through a process of ours, which forwards nothing while it is cut.

    python proxies.py PORT

forwards a free port of this machine, which it prints, to PORT; `cut` and `mend` are lines of its standard input.
"""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Cut, it neither forwards nor closes: packets are lost."""

    def __init__(self, target_port: int) -> None:
        command = [sys.executable, __file__, str(target_port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def cut(self) -> None:
        self._say("cut")

    def mend(self) -> None:
        self._say("mend")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()


@contextmanager
def proxied(target_port: int) -> Iterator[Proxy]:
    proxy = Proxy(target_port)
    try:
        yield proxy
    finally:
        proxy.stop()


async def forward(target_port: int) -> None:
    whole = asyncio.Event()
    whole.set()

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await whole.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await whole.wait()
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - what the parent waits for
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "cut":
            whole.clear()
        else:
            whole.set()


if __name__ == "__main__":
    asyncio.run(forward(int(sys.argv[1])))
