"""For other programs: needs neither torch nor OpenCV nor PyAV."""

from tracker.client.client import CONTROL, TIMEOUT_S, AsyncClient, AsyncSubscription, Client, Subscription, mask_of

__all__ = ["CONTROL", "TIMEOUT_S", "AsyncClient", "AsyncSubscription", "Client", "Subscription", "mask_of"]
