"""Who may use the page, and who is told what instead."""

from pathlib import Path
from typing import Any

import pytest

from tracker.config import WebConfig
from tracker.errors import ConfigError
from tracker.web.access import Access, Caller

TOKEN = "correct horse battery"
LOCAL = {"host": "127.0.0.1:5580"}


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return str(path)


def caller(peer: str = "127.0.0.1", cookies: Any = None, websocket: Any = False, **headers: str) -> Caller:
    named = {name.replace("_", "-"): value for name, value in {**LOCAL, **headers}.items()}
    return Caller(peer, named, cookies or {}, "ws" if websocket else "http", websocket)


def status(access: Access, caller: Caller) -> int:
    refusal = access.refusal(caller)
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    ("endpoint", "more", "words"),
    [
        ("5580", {}, "not host:port"),
        ("127.0.0.1:99999", {}, "not host:port"),
        ("0.0.0.0:5580", {}, "can be reached from other machines"),
        ("192.0.2.1:5580", {"hosts": ["cameras"]}, "can be reached from other machines"),
        ("127.0.0.1:5580", {"user_header": "X-User"}, "name the proxies"),
        ("127.0.0.1:5580", {"trusted_proxies": ["nowhere"]}, "web.trusted_proxies"),
        ("127.0.0.1:5580", {"token_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_what_is_unsafe_or_wrong_is_refused_with_the_remedy(endpoint: str, more: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Access.of(WebConfig(endpoint=endpoint, **more))


def test_a_short_token_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("1234")
    with pytest.raises(ConfigError, match="holds 4 characters"):
        Access.of(WebConfig(endpoint="127.0.0.1:5580", token_file=str(path)))


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, 200),
        ({"host": "localhost:5580", "origin": "http://localhost:5580"}, 200),
        ({"host": "[::1]:5580"}, 200),
        ({"host": "cameras.example"}, 200),
        ({"host": "evil.example"}, 421),  # DNS rebinding: the browser was told that this name is here
        ({"host": ""}, 421),
        ({"host": "[::1"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 403),  # another program of this machine
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 200),  # a link
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"x_forwarded_host": "cameras.example", "host": "evil.example"}, 421),  # from nobody that is trusted
    ],
)
def test_names_and_origins(headers: dict[str, str], wanted: int) -> None:
    access = Access.of(WebConfig(endpoint="127.0.0.1:5580", hosts=["Cameras.example"]))
    assert status(access, caller(**headers)) == wanted


def test_a_websocket_names_its_origin() -> None:
    access = Access.of(WebConfig(endpoint="127.0.0.1:5580"))
    assert status(access, caller(websocket=True)) == 403
    assert status(access, caller(websocket=True, origin="http://127.0.0.1:5580")) == 200


def test_a_token_opens_by_header_or_cookie(token_file: str) -> None:
    access = Access.of(WebConfig(endpoint="0.0.0.0:5580", hosts=["127.0.0.1"], token_file=token_file))
    assert status(access, caller()) == 401
    assert status(access, caller(authorization=f"Bearer {TOKEN}")) == 200
    assert status(access, caller(authorization=f"Basic {TOKEN}")) == 401
    assert status(access, caller(cookies={access.cookie: access.session()})) == 200
    assert status(access, caller(cookies={access.cookie: TOKEN})) == 401
    assert TOKEN not in access.session()


def test_a_proxys_user_counts_only_from_the_proxy() -> None:
    config = WebConfig(
        endpoint="0.0.0.0:5580", hosts=["cam.example"], trusted_proxies=["192.0.2.0/24"], user_header="X-User"
    )
    access = Access.of(config)
    forwarded = {"x_forwarded_host": "cam.example", "x_forwarded_proto": "https", "x_user": "ann"}
    proxied = caller("192.0.2.7", **forwarded)
    assert status(access, proxied) == 200
    assert access.secure(proxied)
    assert status(access, caller("192.0.2.7", x_forwarded_host="cam.example")) == 401
    assert status(access, caller("198.51.100.1", **forwarded)) == 401
    assert not access.secure(caller("198.51.100.1", **forwarded))
