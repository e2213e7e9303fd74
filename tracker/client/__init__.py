"""For other programs: needs neither torch nor OpenCV nor PyAV."""

from tracker.client.asyncio_client import AsyncClient, AsyncSubscription
from tracker.client.client import Client, Subscription, mask_of
from tracker.client.connection import CONTROL, TIMEOUT_S
from tracker.client.messages import Message

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
