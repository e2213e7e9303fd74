"""CURVE keys: made, kept in files, read and checked. No ZeroMQ here: sockets, client and commands all need them.

A folder of keys has `daemon.key` (the daemon's own pair), `control/NAME.pub` (who may ask) and `publish/NAME.pub`
(who may listen). A key file is text: `public`, `secret` and, for a client, `server` (the daemon's public key). Keys
are 32 bytes as 40 characters of Z85 (ZeroMQ's RFC 32).
"""

import contextlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tracker.errors import ConfigError

Socket = Literal["control", "publish"]
SOCKETS: tuple[Socket, Socket] = ("control", "publish")
NAME = r"[a-z0-9][a-z0-9_.-]{0,63}"
MAX_FILE_BYTES = 4096
MAX_ALLOWED = 4096  # keys of one list
RELOAD_S = 0.5

_Z85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_P = 2**255 - 19


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Z85 text. `server` is the daemon's public key, in a client's file."""

    public: str
    secret: str
    server: str | None = None

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


def new_pair(server: str | None = None) -> KeyPair:
    secret = secrets.token_bytes(32)
    return KeyPair(z85(_x25519_public(secret)), z85(secret), server)


def write_pair(path: Path, pair: KeyPair) -> None:
    """A new file, mode 0600. Raises ConfigError where there is one already."""
    lines = {"public": pair.public, "secret": pair.secret, "server": pair.server}
    text = "".join(f"{name} {key}\n" for name, key in lines.items() if key)
    _write_new(path, text, 0o600)


def read_pair(path: Path) -> KeyPair:
    """Raises ConfigError for what is no key file, or one that others may read or write."""
    text = _read(path, secret=True)
    fields = dict(line.split(None, 1) for line in text.splitlines() if len(line.split()) == 2)
    try:
        pair = KeyPair(fields["public"].strip(), fields["secret"].strip(), fields.get("server"))
    except KeyError as error:
        raise ConfigError([f"{path}: is no key file: it has no line {error.args[0]!r}"]) from None
    for key in (pair.public, pair.secret, pair.server or pair.public):
        if not is_key(key):
            raise ConfigError([f"{path}: holds what is no key of 40 characters"])
    if z85(_x25519_public(_z85_bytes(pair.secret))) != pair.public:
        raise ConfigError([f"{path}: its public key is not that of its secret"])
    return pair


def daemon_pair(folder: Path) -> KeyPair:
    """The daemon's own, from systemd's credentials where the service has `daemon.key` there. Raises ConfigError."""
    given = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(given) / "daemon.key" if given and (Path(given) / "daemon.key").exists() else folder / "daemon.key"
    if not path.exists():
        raise ConfigError([f"{path}: there is none; make one: trackerd keys new daemon --dir {folder}"])
    return read_pair(path)


def allow(folder: Path, name: str, public: str, sockets: tuple[Socket, ...] = SOCKETS) -> None:
    """Raises ConfigError for what is no name or no key."""
    _check_name(name)
    if not is_key(public):
        raise ConfigError([f"{public!r} is no public key of 40 characters; trackerd keys show prints one"])
    for socket in sockets:
        (folder / socket).mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / socket / f"{name}.pub"
        aside = path.with_name(f".{path.name}.new")
        aside.unlink(missing_ok=True)
        _write_new(aside, public + "\n", 0o600)
        aside.replace(path)  # at once: a running daemon shuts connections whose key it does not find


def revoke(folder: Path, name: str, sockets: tuple[Socket, ...] = SOCKETS) -> list[Socket]:
    """Returns of which lists the name was taken."""
    _check_name(name)
    taken: list[Socket] = []
    for socket in sockets:
        with contextlib.suppress(FileNotFoundError):
            (folder / socket / f"{name}.pub").unlink()
            taken.append(socket)
    return taken


def key_path(folder: Path, name: str) -> Path:
    """Where NAME's key file is made. Raises ConfigError for what is no name."""
    _check_name(name)
    return folder / f"{name}.key"


def _check_name(name: str) -> None:
    if not re.fullmatch(NAME, name):
        raise ConfigError([f"{name!r} is no name for a key: small letters, digits, _ . and -"])


class AllowList:
    """Whose keys one socket takes: read again when the folder changes. Safe in any thread."""

    def __init__(self, folder: Path, socket: Socket) -> None:
        self._folder = folder / socket
        self._names: dict[str, str] = {}
        self._stamp: object = None
        self._due_s = 0.0

    def name_of(self, public: str) -> str | None:
        """Who has this key; None: nobody who is allowed."""
        if time.monotonic() >= self._due_s:
            self._due_s = time.monotonic() + RELOAD_S
            self._reload()
        return self._names.get(public)

    def _reload(self) -> None:
        stamp = sorted(_stamps(self._folder))
        if stamp == self._stamp:
            return
        names = {}
        for name, *_ in stamp[:MAX_ALLOWED]:
            # A file that cannot be trusted lets nobody in.
            with contextlib.suppress(ConfigError):
                names[_read(self._folder / name, secret=False).strip()] = name.removesuffix(".pub")
        self._names, self._stamp = names, stamp


def problems(folder: Path) -> list[str]:
    """What is wrong with a folder of keys."""
    found = []
    for socket in SOCKETS:
        paths = sorted((folder / socket).glob("*.pub"))
        if not paths:
            found.append(f"keys.dir: {folder / socket} allows nobody; trackerd keys allow NAME KEY --dir {folder}")
        for path in paths:
            try:
                if not is_key(_read(path, secret=False).strip()):
                    found.append(f"keys.dir: {path}: is no public key of 40 characters")
            except ConfigError as error:
                found += [f"keys.dir: {problem}" for problem in error.problems]
    try:
        daemon_pair(folder)
    except ConfigError as error:
        found += [f"keys.dir: {problem}" for problem in error.problems]
    return found


def is_key(text: str | None) -> bool:
    return text is not None and len(text) == 40 and all(c in _Z85 for c in text)


def _stamps(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    """What changes with a key, its owner or its mode. A key that vanishes meanwhile hides no other."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.name.endswith(".pub"):
                    status = entry.stat(follow_symlinks=False)
                    yield entry.name, status.st_ctime_ns, status.st_ino, status.st_size


def _read(path: Path, secret: bool) -> str:
    """A small regular file of ours that nobody else can write, nor read where it is secret. Raises ConfigError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    with open(fd, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        status = os.fstat(fd)
        forbidden = 0o077 if secret else 0o022
        given = os.environ.get("CREDENTIALS_DIRECTORY")
        if given and Path(given) == path.parent:
            forbidden = 0o022  # systemd guards the folder
        if not stat.S_ISREG(status.st_mode) or status.st_uid not in (0, os.geteuid()) or status.st_mode & forbidden:
            raise ConfigError([f"{path}: others can {'read' if secret else 'write'} it; chmod 600, and own it"])
        return file.read(MAX_FILE_BYTES).decode("ascii", "replace")


def _write_new(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise ConfigError([f"{path}: is there already; remove it first if it is to be replaced"]) from None
    with open(fd, "w") as file:  # noqa: PTH123 - a descriptor, not a path
        file.write(text)


def z85(data: bytes) -> str:
    """ZeroMQ's RFC 32: 4 bytes as 5 characters."""
    text = ""
    for i in range(0, len(data), 4):
        value = int.from_bytes(data[i : i + 4], "big")
        text += "".join(_Z85[value // 85**place % 85] for place in (4, 3, 2, 1, 0))
    return text


def _z85_bytes(text: str) -> bytes:
    data = b""
    for i in range(0, len(text), 5):
        value = 0
        for character in text[i : i + 5]:
            value = value * 85 + _Z85.index(character)
        data += (value % 2**32).to_bytes(4, "big")
    return data


def _x25519_public(secret: bytes) -> bytes:
    """The public key of a secret one: RFC 7748's X25519 with base point 9, by the Montgomery ladder."""
    number = bytearray(secret)
    number[0] &= 248
    number[31] = number[31] & 127 | 64
    k = int.from_bytes(number, "little")
    x2, z2, x3, z3 = 1, 0, 9, 1
    swapped = 0
    for i in reversed(range(255)):
        bit = k >> i & 1
        if swapped ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swapped = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        da, cb, aa, bb = d * a % _P, c * b % _P, a * a % _P, b * b % _P
        x3, z3 = (da + cb) ** 2 % _P, 9 * (da - cb) ** 2 % _P
        e = aa - bb
        x2, z2 = aa * bb % _P, e * (aa + 121665 * e) % _P
    if swapped:
        x2, z2 = x3, z3
    return (x2 * pow(z2, _P - 2, _P) % _P).to_bytes(32, "little")
