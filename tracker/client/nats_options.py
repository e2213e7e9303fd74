"""Where a fleet's NATS is and who we are to it, looked at before anything is sent there."""

import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from tracker.errors import ConfigError

R = TypeVar("R")

SCHEMES = ("nats", "tls", "ws", "wss")
SEED = re.compile(r"BEGIN NATS USER JWT-+\s+\S+\s.*BEGIN USER NKEY SEED-+\s+(\S+)\s", re.DOTALL)


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """`check` them first."""

    servers: Sequence[str] = ("nats://127.0.0.1:4222",)
    credentials: str | None = None  # a .creds file, as `nsc` makes it
    ca: str | None = None  # certificates that the servers are checked by, instead of the system's
    certificate: str | None = None  # our own certificate, and its key
    certificate_key: str | None = None

    @classmethod
    def of(cls, servers: str, **files: str | None) -> "NatsOptions":
        """Of servers as a person writes them, one or several with commas between."""
        return cls([server.strip() for server in servers.split(",")], **files)

    @property
    def shown(self) -> str:
        """The servers, without users and passwords."""
        return ", ".join(re.sub(r"//.*@", "//…@", server) for server in self.servers)

    @property
    def wants_tls(self) -> bool:
        """Nothing is sent to a server that does not speak TLS: whoever stands between could have taken it away."""
        has_files = self.ca is not None or self.certificate is not None
        return has_files or any(server.startswith(("tls://", "wss://")) for server in self.servers)

    def check(self) -> None:
        """Raises ConfigError where they cannot be right, or what they need is not installed."""
        if find_spec("nats") is None:
            problem = "a fleet needs nats-py: tools/install brings it along; elsewhere pip install 'nats-py[nkeys]'"
            raise ConfigError([problem])
        problems = [wrong for server in self.servers if (wrong := _server_problem(server)) is not None]
        if (self.certificate is None) != (self.certificate_key is None):
            problems.append("nats: a certificate and its key belong together; one of them is missing")
        if problems:
            raise ConfigError(problems)
        if self.credentials is not None:
            _check_credentials(self.credentials)

    def tls(self) -> ssl.SSLContext | None:
        """None: by the system's certificates, where it comes to that. Raises ConfigError."""
        if self.ca is None and self.certificate is None:
            return None
        context = ssl.create_default_context()
        if self.ca is not None:
            context = _read(self.ca, lambda: ssl.create_default_context(cafile=self.ca))
        if self.certificate is not None:
            certificate, key = self.certificate, self.certificate_key
            _read(certificate, lambda: context.load_cert_chain(certificate, key))
        return context


def _server_problem(server: str) -> str | None:
    shown = re.sub(r"//.*@", "//…@", server)
    rule = f"nats: {shown!r} is no server: write nats://HOST:4222, or tls://HOST:4222"
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        host, port = parts.hostname, parts.port
    except ValueError:
        return rule
    is_known = "://" not in server or server.startswith(tuple(f"{scheme}://" for scheme in SCHEMES))
    if not is_known or not host or re.search(r"\s", server) or port == 0:
        return rule
    return None


def _check_credentials(path: str) -> None:
    """nats-py would call a file that is not there a server that is not."""
    try:
        import nkeys
    except ImportError:
        raise ConfigError(["nats: credentials need nkeys: pip install 'nats-py[nkeys]'"]) from None
    try:
        (seed,) = SEED.findall(Path(path).read_text(encoding="ascii"))
        nkeys.from_seed(seed.encode())
    except OSError as error:
        raise ConfigError([f"nats: {path} cannot be read: {error.strerror}"]) from None
    except (ValueError, nkeys.NkeysError):
        raise ConfigError([f"nats: {path} is no credentials file as nsc makes it"]) from None


def _read(path: str, read: Callable[[], R]) -> R:
    try:
        return read()
    except ssl.SSLError:
        raise ConfigError([f"nats: {path} holds no certificate in PEM, or its key is another's"]) from None
    except OSError as error:
        raise ConfigError([f"nats: {error.filename or path} cannot be read: {error.strerror}"]) from None
