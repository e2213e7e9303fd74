"""Runs the page's server until it is told to stop."""

import logging
import socket
import sys
import threading

import uvicorn

from tracker.config import WebConfig
from tracker.web.access import Access, endpoint_of
from tracker.web.app import create_app
from tracker.web.listening import listening
from tracker.web.patience import PatientProtocol, PatientWebSocket

log = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 2**20
MAX_UNSENT_BYTES = 2**16  # in the kernel, of a connection: what waits there can't be replaced by what is newer
UNHEARD_MS = 30_000  # a browser whose machine sleeps or is gone, or that reads nothing, is let go after so long
CLOSE_S = 1


def serve(control: str, config: WebConfig, *, ends_with_stdin: bool = False) -> None:
    """Serve the page of the daemon at `control` until SIGTERM or Ctrl-C. Raises ConfigError.

    `ends_with_stdin`: also when standard input ends, so that a parent that dies, however it dies, takes this along.
    """
    access = Access.of(config)
    endpoint = config.endpoint or ""
    with listening(endpoint) as bound:
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)  # connections inherit both
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNHEARD_MS)
        host, _ = endpoint_of(endpoint)
        name = f"[{host}]" if ":" in host else host
        server = uvicorn.Server(_settings(control, access))
        if ends_with_stdin:
            threading.Thread(target=_stop_with_stdin, args=(server,), name="stdin", daemon=True).start()
        log.info("the page is at http://%s:%d/", name, bound.getsockname()[1])
        server.run(sockets=[bound])


def _settings(control: str, access: Access) -> uvicorn.Config:
    return uvicorn.Config(
        create_app(control, access),
        http=PatientProtocol,
        ws=PatientWebSocket,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # a JPEG does not get smaller
        proxy_headers=False,  # `Access` decides whose are believed
        server_header=False,
        access_log=False,
        log_config=None,
        log_level="error",  # a line that is no request is a stranger's, not worth one of the log's
        timeout_graceful_shutdown=CLOSE_S,
    )


def _stop_with_stdin(server: uvicorn.Server) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    server.should_exit = True
