"""The connections of one bound socket, known from its monitor: so that their number has a bound.

ZeroMQ itself takes as many as there are descriptors. It belongs to the socket's thread.
"""

import errno
import logging
import socket as sockets
import time
from collections import OrderedDict

import zmq
from zmq.utils.monitor import parse_monitor_message

from tracker.sockets.bound_address import BoundAddress, opened
from tracker.sockets.guard import Guard
from tracker.sockets.intake import Intake
from tracker.sockets.types import Socket, has_message

log = logging.getLogger(__name__)

REVOKED_S = 0.5  # between two looks at the list
MESSAGES_PER_S = 2000  # that a connection may send for long
AT_ONCE = 512  # that it may send at once
MAX_AHEAD_BYTES = 4 * 2**20  # that a peer may have sent before they are read
COOLING_S = 1.0  # after a flood: whoever was shut is back at once
MESSAGES_WHILE_COOLING = 8  # that a new connection may send at once then
MAX_REMEMBERED = 4096  # senders
SAY_AGAIN_S = 1.0  # until connections that were shut are logged again
NOBODY = -1  # the descriptor of a message that did not come over a connection


class Connections:
    """Descriptors of live connections, the oldest first. `limit` of them stay open."""

    def __init__(
        self, socket: Socket, limit: int, guard: Guard | None = None, max_ahead_bytes: int = MAX_AHEAD_BYTES
    ) -> None:
        self._socket = socket
        self._limit = limit
        self._guard = guard
        self._users: dict[int, str] = {}  # by descriptor: whose key it came with
        self._checked_s = 0.0
        self._said_s, self._unsaid = float("-inf"), 0
        self._address = BoundAddress(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        self.intake = Intake(self._address, max_ahead_bytes, sealed=guard is not None)
        self._monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._spoke: dict[int, bool] = {}  # by descriptor: whether a message ever came over it
        self._accepted_n = 0  # connections so far
        self._newcomers: list[int] = []  # of this round
        self._counts: dict[int, int] = {}  # by descriptor: how many connections there were when it came
        self._senders: OrderedDict[bytes, _Sender] = OrderedDict()  # by routing id

    def __contains__(self, fd: int) -> bool:
        return fd in self._spoke

    def __len__(self) -> int:
        return len(self._spoke)

    @property
    def monitor(self) -> Socket:
        """To be polled together with the socket."""
        return self._monitor

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(linger=0)

    def spoke(self, fd: int, user: str | None = None) -> None:
        """A message came over a connection, and is looked at."""
        if fd not in self._spoke:
            return
        self._spoke[fd] = True
        if user is not None:
            self._users[fd] = user

    def may_send(self, fd: int, routing_id: bytes, nbytes: int, parts: int) -> bool:
        """Whether a message is to be looked at: not where its connection is gone or shut, or sent too many lately.

        What a connection sent before it went is read later, when its descriptor may be another's. Ids that ZeroMQ
        gives, which begin with a zero, are never another's.
        """
        if fd not in self._spoke:
            self.intake.took_of_gone(nbytes, parts)
            return fd == NOBODY
        count = self._counts[fd]
        sender = self._senders.get(routing_id)
        if sender is None or (sender.count != count and routing_id[:1] != b"\0"):
            sender = self._senders[routing_id] = _Sender(
                count, MESSAGES_WHILE_COOLING if self._cools() else AT_ONCE
            )
            if len(self._senders) > MAX_REMEMBERED:
                self._senders.popitem(last=False)
        self._senders.move_to_end(routing_id)
        if sender.count != count:
            self.intake.took_of_gone(nbytes, parts)
            return False
        self.intake.took(fd, nbytes, parts)
        if not sender.may_send():
            self.intake.flooded_s = time.monotonic()
            self._say(f"more than {MESSAGES_PER_S} messages a second of one connection are not looked at")
            return False
        return True

    def _cools(self) -> bool:
        return time.monotonic() - self.intake.flooded_s < COOLING_S

    def note(self) -> list[int]:
        """Take note of who came and who went; returns the descriptors of those that went."""
        gone = []
        while has_message(self._monitor):
            event = parse_monitor_message(self._monitor.recv_multipart())
            fd = int(event["value"])
            self._users.pop(fd, None)
            self._spoke.pop(fd, None)
            self.intake.closed(fd)
            if self._counts.pop(fd, None) is not None:
                gone.append(fd)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._opened(fd)
        return gone

    def update(self) -> list[int]:
        """The same, and shut what is over the limit: first those that never said anything, the oldest of them
        first, else the newest. At the end of a round: who has just spoken first would else lose that."""
        gone = self.note()
        gone += self._shut_all(self._revoked(), "its key is not allowed any more")
        too_many = f"there are more than {self._limit} connections (limits.connections)"
        return gone + self._shut_all(self._over_limit(), too_many)

    def _opened(self, fd: int) -> None:
        self._spoke[fd] = False
        self.intake.opened(fd)
        self._accepted_n += 1
        self._counts[fd] = self._accepted_n
        self._newcomers.append(fd)

    def turn_away(self) -> list[int]:
        """At the end of a round: shut who came in it, where what others left is still not read; returns their
        descriptors. Not earlier: what ended in the middle of a message counts as left until nothing waits."""
        newcomers, self._newcomers = self._newcomers, []
        if not self.intake.is_crowded:
            return []
        return self._shut_all(newcomers, "what connections before it left is not read yet")

    def _revoked(self) -> list[int]:
        if self._guard is None or time.monotonic() - self._checked_s < REVOKED_S:
            return []
        self._checked_s = time.monotonic()
        self._users = {fd: user for fd, user in self._users.items() if fd in self._spoke}
        return [fd for fd, user in self._users.items() if not self._guard.allows(user)]

    def _over_limit(self) -> list[int]:
        over = len(self._spoke) - self._limit
        if over <= 0:
            return []
        silent = [fd for fd, spoke in self._spoke.items() if not spoke]
        newest = [fd for fd, spoke in reversed(self._spoke.items()) if spoke]
        return (silent + newest)[:over]

    def shed(self) -> list[int]:
        """Shut the newer half, for want of memory; returns their descriptors."""
        newest = list(self._spoke)[len(self._spoke) // 2 :]
        return self._shut_all(newest, "the process needs more memory than limits.memory_mib")

    def _shut_all(self, fds: list[int], why: str) -> list[int]:
        """Returns those that were shut."""
        return [fd for fd in fds if self.shut(fd, why)]

    def shut(self, fd: int, why: str) -> bool:
        """End a connection; ZeroMQ closes its descriptor when it sees that. Returns whether it was shut: one that
        cannot be is kept until ZeroMQ says that it is gone, so that it is tried again and still counts."""
        if fd not in self._spoke:
            return False
        try:
            with opened(fd) as connection:
                if not self._address.accepted(connection):
                    raise FileNotFoundError(errno.ENOENT, "its descriptor is another file's")
                peer = connection.getpeername() or "local"
                self.intake.shutting(fd)
                connection.shutdown(sockets.SHUT_RDWR)
        except OSError as error:  # as a rule it hung up just now
            self._say(f"a connection cannot be shut ({error.strerror}): {why}")
            return False
        del self._spoke[fd]
        self._say(f"the connection of {peer} is shut: {why}")
        return True

    def _say(self, text: str) -> None:
        """Log it; not each of many."""
        if time.monotonic() - self._said_s < SAY_AGAIN_S:
            self._unsaid += 1
            return
        log.warning("%s: %s%s", self._address, text, f" ({self._unsaid} more before)" if self._unsaid else "")
        self._said_s, self._unsaid = time.monotonic(), 0


class _Sender:
    """One peer: the connection that it came over, by its count, and how many messages it may still send now."""

    def __init__(self, count: int, at_once: int) -> None:
        self.count = count
        self._left = float(at_once)
        self._filled_s = time.monotonic()

    def may_send(self) -> bool:
        now_s = time.monotonic()
        gained = (now_s - self._filled_s) * MESSAGES_PER_S
        self._left, self._filled_s = max(-1.0, min(AT_ONCE, self._left + gained) - 1), now_s
        return self._left >= 0


def descriptor_of(frame: zmq.Frame) -> int:
    """The descriptor of the connection that a received frame came over."""
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return NOBODY


def user_of(frame: zmq.Frame) -> str | None:
    """The public key that a received frame's connection was let in with; None without keys."""
    try:
        return str(frame.get("User-Id"))
    except zmq.ZMQError:
        return None
