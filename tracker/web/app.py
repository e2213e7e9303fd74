"""The page's HTTP side: files from the package, one buffered frame at a time, signing in, and the WebSocket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import PurePath
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tracker.errors import TrackerError
from tracker.protocol.replies import ErrorBody
from tracker.web.access import Access
from tracker.web.guard import Guard, caller_of
from tracker.web.hub import Hub
from tracker.web.messages import NotUnderstood
from tracker.web.operations import snapshot
from tracker.web.sign_in import page_address, sign_in_form
from tracker.web.viewer import Viewer

TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
MAX_VIEWERS = 64
MAX_FORM_BYTES = 4096
KEPT_S = 30 * 24 * 3600  # a cookie, or until the token changes
BUSY, NOT_UNDERSTOOD = 1013, 1008  # WebSocket close codes
STATUS = {"bad_request": 400, "forbidden": 403, "unavailable": 503, "internal": 500}  # of other codes: 404


def create_app(control: str, access: Access) -> Guard:
    """`control` is the daemon's endpoint."""
    page = Page(control, access)
    routes = [
        Route("/", page.index),
        Route("/s/{stream}", page.index),
        Route("/login", page.sign_in, methods=["POST"]),
        Route("/static/{name}", page.file),
        Route("/frames/{stream}/{frame}", page.frame),
        WebSocketRoute("/ws", page.socket),
    ]
    app = Starlette(routes=routes, lifespan=page.lifespan, exception_handlers={404: page.lost, 405: page.lost})
    return Guard(app, access, page.files["login.html"].decode())


class Page:
    def __init__(self, control: str, access: Access) -> None:
        self._control = control
        self._access = access
        self._viewers = 0
        # Read once: no path of a request ever meets the file system.
        folder = resources.files("tracker.web") / "static"
        self.files = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        self._hub = Hub(self._control)
        yield
        await self._hub.close()

    async def index(self, _: Request) -> Response:
        return self._file("index.html")

    async def lost(self, request: Request, error: Exception) -> Response:
        """No route, or none for this method: a person gets a way back, a program the bare words."""
        assert isinstance(error, HTTPException)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(self.files["lost.html"], error.status_code, error.headers)
        return PlainTextResponse(error.detail, error.status_code, error.headers)

    async def file(self, request: Request) -> Response:
        return self._file(request.path_params["name"])

    async def sign_in(self, request: Request) -> Response:
        """A token becomes a cookie, and the page that was asked for is shown."""
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_FORM_BYTES:
                    return Response(status_code=413)
        except ClientDisconnect:
            return Response(status_code=400)  # which nobody hears
        token = parse_qs(body.decode(errors="replace")).get("token", [""])[0].strip()
        wanted = page_address(request.query_params.get("to", "/"))
        if not self._access.is_token(token):
            form = sign_in_form(self.files["login.html"].decode(), wanted, "That is not the token.")
            return HTMLResponse(form, 401)
        response = RedirectResponse(wanted, 303)
        secure = self._access.secure(caller_of(request.scope))
        name, value = self._access.cookie, self._access.session()
        response.set_cookie(name, value, KEPT_S, httponly=True, samesite="lax", secure=secure)
        return response

    async def frame(self, request: Request) -> Response:
        """A buffered frame as JPEG, or the newest, with its number in `X-Frame` and its time in `X-Time`."""
        try:
            image = await snapshot(self._hub.client, {**request.path_params, **request.query_params})
        except TrackerError as error:
            body = msgspec.json.encode(ErrorBody(code=error.code, message=error.message))
            return Response(body, STATUS.get(error.code, 404), media_type="application/json")
        size = "{}x{}".format(*image.size)
        headers = {"x-frame": str(image.frame), "x-time": str(image.time), "x-size": size}
        if image.pixel_aspect is not UNSET:
            headers["x-pixel-aspect"] = "x".join(map(str, image.pixel_aspect))
        return Response(image.data, headers=headers, media_type="image/jpeg")

    async def socket(self, socket: WebSocket) -> None:
        await socket.accept()
        if self._viewers >= MAX_VIEWERS:
            await socket.close(BUSY, f"{MAX_VIEWERS} pages are open already")
            return
        self._viewers += 1
        try:
            await Viewer(socket, self._hub).run()
        except NotUnderstood as error:
            await socket.close(NOT_UNDERSTOOD, str(error)[:100])
        finally:
            self._viewers -= 1

    def _file(self, name: str) -> Response:
        if name not in self.files:
            raise HTTPException(404)
        return Response(self.files[name], media_type=TYPES.get(PurePath(name).suffix, "application/octet-stream"))
