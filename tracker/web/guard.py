"""Stands before the whole application: refuses who may not, and puts the security headers on every answer."""

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tracker.web.access import Access, Caller, Refusal
from tracker.web.sign_in import sign_in_form

# No inline script or style, nothing from elsewhere, and no text can become markup (Trusted Types without a policy).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self' {socket}; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "cache-control": "no-cache",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "same-origin",  # with none a form's Origin would be null, and signing in be refused
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
OPEN_FILES = {"/static/login.css"}
SIGN_IN = "/login"


def caller_of(scope: MutableMapping[str, Any]) -> Caller:
    connection = HTTPConnection(scope)
    peer = connection.client.host if connection.client else ""
    websocket = scope["type"] == "websocket"
    return Caller(peer, connection.headers, connection.cookies, scope.get("scheme", "http"), websocket)


def address_of(scope: MutableMapping[str, Any]) -> str:
    """Path and query as the browser sent them."""
    path = scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
    query = scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


class Guard:
    def __init__(self, app: ASGIApp, access: Access, login: str) -> None:
        self._app = app
        self._access = access
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        caller = caller_of(scope)
        refusal = self._access.refusal(caller)
        if refusal and refusal.status == 401 and scope["path"] in {SIGN_IN, *OPEN_FILES}:
            refusal = None
        headers = self._headers(caller)

        async def send_with_headers(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                added = [(name.encode(), value.encode()) for name, value in headers.items()]
                message = {**message, "headers": [*message.get("headers", []), *added]}
            await send(message)

        if refusal is None:
            await self._app(scope, receive, send_with_headers)
        elif caller.websocket:
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: status 403
        else:
            await self._refusing(caller, refusal, address_of(scope))(scope, receive, send_with_headers)

    def _refusing(self, caller: Caller, refusal: Refusal, wanted: str) -> Response:
        """A person who has no token yet gets the form for it."""
        if refusal.status == 401 and "text/html" in caller.headers.get("accept", ""):
            return HTMLResponse(sign_in_form(self._login, wanted), refusal.status)
        return PlainTextResponse(f"{refusal.message}\n", refusal.status)

    def _headers(self, caller: Caller) -> dict[str, str]:
        scheme = "wss" if self._access.secure(caller) else "ws"
        host = self._access.host(caller)
        socket = f"{scheme}://{host}" if all(c.isalnum() or c in ".-:[]" for c in host) else ""
        return {**HEADERS, "content-security-policy": POLICY.format(socket=socket)}
