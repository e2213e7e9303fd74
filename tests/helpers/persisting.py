"""Daemons whose state outlives them, and what is asked of them."""

from pathlib import Path
from typing import Any

from helpers.tracking import Message, Talk, configuration, wait_until
from tracker.config import Config

RESTING, MOVING = [120, 90], [20, 30]


def configured(film: Path, state: Path, streams: bool = True, **sections: Any) -> Config:
    sections["control"] = {"allow_sources": [f"{film.parent}/*"]} | sections.get("control", {})
    if streams:
        sections["streams"] = {"cam": {"url": str(film), "loop": True}}
    return configuration(persist={"dir": str(state), "interval_s": 0.05}, **sections)


def add(talk: Talk, at: list[int] = RESTING, stream: str = "cam", **more: Any) -> Message:
    wait_until(lambda: any(s["stream"] == stream and s["frame"] is not None for s in streams(talk)))
    return talk.ask("objects.add", stream=stream, points=[at], **more)


def streams(talk: Talk) -> list[Message]:
    found: list[Message] = talk.ask("streams.list")["streams"]
    return found


def objects(talk: Talk, **args: Any) -> list[Message]:
    found: list[Message] = talk.ask("objects.list", **args)["objects"]
    return found
