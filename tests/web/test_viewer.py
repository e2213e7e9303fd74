"""A browser's side of the page's server, where what it looks at changes while pictures are sent."""

import asyncio
from typing import Any, cast

from tracker.web import messages as m
from tracker.web.viewer import MAX_CALLS, MAX_TEXTS_BYTES, Viewer


class Socket:
    def __init__(self) -> None:
        self.sent: list[bytes] = []

    async def send_bytes(self, data: bytes) -> None:
        self.sent.append(data)


class Hub:
    """One that takes its time with being told that nobody looks any more."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    def there(self) -> set[str]:
        return {"a", "b"}

    def look(self, *_: Any) -> str:
        return "320"

    async def look_away(self, *_: Any) -> None:
        await self.told.wait()


def test_pictures_of_streams_that_are_left_are_not_sent_while_the_hub_is_told() -> None:
    async def look_away_from_both() -> list[bytes]:
        socket, hub = Socket(), Hub()
        viewer = Viewer(cast(Any, socket), cast(Any, hub))
        await viewer._look({"a": 320, "b": 320})
        viewer.show("a", b"a")
        viewer.show("b", b"b")
        leaving = asyncio.create_task(viewer._look({}))
        await asyncio.sleep(0)  # the hub is being told of the first
        await viewer._send_pictures()
        hub.told.set()
        await leaving
        return socket.sent

    assert asyncio.run(look_away_from_both()) == []


def test_answers_that_a_browser_does_not_read_are_bounded() -> None:
    """It may ask for large ones all the time."""
    answer = m.Refused(id=1, code="internal", message="x" * (MAX_TEXTS_BYTES // 4))
    viewer = Viewer(cast(Any, Socket()), cast(Any, Hub()))
    for _ in range(MAX_CALLS):
        viewer.tell(answer)
    assert sum(map(len, viewer._texts)) < 2 * MAX_TEXTS_BYTES
