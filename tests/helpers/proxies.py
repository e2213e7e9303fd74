"""A network that can be cut, or is slow: TCP connections through a process of ours.

    python proxies.py PORT [BYTES_S]

forwards a free port of this machine, which it prints, to PORT; `cut` and `mend` are lines of its standard input:
while it is cut, nothing is forwarded. With BYTES_S all connections together get so many bytes a second from PORT.
"""

import asyncio
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class Proxy:
    """Cut, it neither forwards nor closes: packets are lost."""

    def __init__(self, target_port: int, bytes_s: int | None = None) -> None:
        command = [sys.executable, __file__, str(target_port), *([] if bytes_s is None else [str(bytes_s)])]
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
def proxied(target_port: int, bytes_s: int | None = None) -> Iterator[Proxy]:
    proxy = Proxy(target_port, bytes_s)
    try:
        yield proxy
    finally:
        proxy.stop()


PIECE_BYTES = 2048  # of a slow link, sent at once


class SlowLink:
    """Lets bytes through one after the other."""

    def __init__(self, bytes_s: float) -> None:
        self._bytes_s = bytes_s
        self._free_s = 0.0

    async def carry(self, count: int) -> None:
        now_s = asyncio.get_running_loop().time()
        self._free_s = max(self._free_s, now_s) + count / self._bytes_s
        await asyncio.sleep(self._free_s - now_s)


async def forward(target_port: int, bytes_s: float = math.inf) -> None:
    whole = asyncio.Event()
    whole.set()
    down, up = SlowLink(bytes_s), SlowLink(math.inf)
    piece = 65536 if math.isinf(bytes_s) else PIECE_BYTES

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: SlowLink) -> None:
        try:
            while data := await reader.read(piece):
                await whole.wait()
                await link.carry(len(data))
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
        await asyncio.gather(pipe(reader, there_writer, up), pipe(there_reader, writer, down))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - what the parent waits for
    while line := await asyncio.to_thread(sys.stdin.readline):
        if line.strip() == "cut":
            whole.clear()
        else:
            whole.set()


if __name__ == "__main__":
    asyncio.run(forward(*map(int, sys.argv[1:])))
