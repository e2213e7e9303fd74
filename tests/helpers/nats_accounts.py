"""An operator, an account with JetStream and users of it, as `nsc` makes them: tokens signed by NATS's keys."""

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nkeys

HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
UNLIMITED = dict.fromkeys(["subs", "data", "payload", "imports", "exports", "conn", "leaf"], -1)
JETSTREAM = dict.fromkeys(["mem_storage", "disk_storage", "streams", "consumer"], -1)
CREDS = """-----BEGIN NATS USER JWT-----
{token}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
{seed}
------END USER NKEY SEED------
"""


@dataclass(frozen=True, slots=True)
class Account:
    """Its users are let in; `configuration` is the server's, which knows this one account besides its own."""

    pair: nkeys.KeyPair
    configuration: Path

    def write_credentials(
        self, path: Path, permissions: dict[str, list[str]] | None = None, *, lasts_s: int | None = None
    ) -> Path:
        """Of a new user, who may do everything, or `publish` to these subjects and `subscribe` to those."""
        user = _new_pair(nkeys.PREFIX_BYTE_USER)
        may = {kind[:3]: {"allow": subjects} for kind, subjects in (permissions or {}).items()}
        ends = {} if lasts_s is None else {"exp": int(time.time()) + lasts_s}
        token = _token(self.pair, user, "user", {"subs": -1, "data": -1, "payload": -1, **may}, **ends)
        path.write_text(CREDS.format(token=token, seed=user.seed.decode()))
        return path


def account(folder: Path) -> Account:
    operator, system, ours = map(
        _new_pair, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_ACCOUNT)
    )
    tokens = {
        _public(system): _token(operator, system, "account", {"limits": UNLIMITED}),
        _public(ours): _token(operator, ours, "account", {"limits": {**UNLIMITED, **JETSTREAM}}),
    }
    preloaded = "\n".join(f"  {key}: {token}" for key, token in tokens.items())
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"operator: {_token(operator, operator, 'operator', {})}\n"
        f"system_account: {_public(system)}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{preloaded}\n}}\n"
    )
    return Account(ours, configuration)


def _new_pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def _public(pair: nkeys.KeyPair) -> str:
    return pair.public_key.decode()


def _token(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, more: dict[str, Any], **ends: int) -> str:
    claims = {
        "iat": 1,
        "iss": _public(issuer),
        "sub": _public(subject),
        "name": kind,
        "nats": {"type": kind, "version": 2, **more},
        **ends,
    }
    claims["jti"] = base64.b32encode(hashlib.sha256(_json(claims)).digest()).decode().rstrip("=")
    signed = f"{_base64(_json(HEADER))}.{_base64(_json(claims))}"
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _json(what: dict[str, Any]) -> bytes:
    return json.dumps(what, separators=(",", ":")).encode()


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
