"""For other programs: needs neither torch nor OpenCV nor PyAV. asyncio is loaded with `AsyncClient` only."""

from typing import TYPE_CHECKING, Any

from tracker.client.client import Client, Subscription, mask_of
from tracker.client.connection import CONTROL, TIMEOUT_S
from tracker.client.messages import Message

if TYPE_CHECKING:
    from tracker.client.asyncio_client import AsyncClient, AsyncSubscription

__all__ = [
    "CONTROL",
    "TIMEOUT_S",
    "AsyncClient",
    "AsyncSubscription",
    "Client",
    "Message",
    "Subscription",
    "mask_of",
]


def __getattr__(name: str) -> Any:
    if name not in ("AsyncClient", "AsyncSubscription"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tracker.client import asyncio_client

    return getattr(asyncio_client, name)
