"""The error tree. Every error that can reach a client has a protocol code; the message names what was wrong
and what would be right.

    TrackerError                 internal
    ├── BadRequest               bad_request
    │   ├── UnsupportedVersion   unsupported_version
    │   ├── UnknownOp            unknown_op
    │   └── BadPrompt            bad_prompt
    │       └── FrameMarked      bad_prompt
    ├── UnknownStream            unknown_stream
    ├── UnknownObject            unknown_object
    ├── UnknownZone              unknown_zone
    ├── AlreadyExists            already_exists
    ├── NoFrame                  no_frame
    ├── FrameGone                frame_gone
    ├── RefGone                  ref_gone
    ├── TransferGone             transfer_gone
    ├── NoObject                 no_object
    ├── AtCapacity               at_capacity
    ├── Forbidden                forbidden
    ├── TooLarge                 too_large
    ├── Unavailable              unavailable
    │   └── Timeout              unavailable      (raised by the client: no reply, or no message, in time)
    │       └── DaemonGone       unavailable      (raised by the client: who listens hears nothing, and it is away)
    ├── ConfigError              (start-up only)
    ├── ModelError               (start-up only)
    └── SourceError              (a stream's `error` text)
"""

from typing import ClassVar


class TrackerError(Exception):
    """Base of all errors of this package; `code` is the protocol's error code."""

    code: ClassVar[str] = "internal"

    @property
    def message(self) -> str:
        return str(self)


class BadRequest(TrackerError):
    code = "bad_request"


class UnsupportedVersion(BadRequest):
    code = "unsupported_version"


class UnknownOp(BadRequest):
    code = "unknown_op"


class BadPrompt(BadRequest):
    code = "bad_prompt"


class FrameMarked(BadPrompt):
    """A box for an object on a frame where it is marked already. Each door adds the remedy that it has."""


class UnknownStream(TrackerError):
    code = "unknown_stream"


class UnknownObject(TrackerError):
    code = "unknown_object"


class UnknownZone(TrackerError):
    code = "unknown_zone"


class AlreadyExists(TrackerError):
    code = "already_exists"


class NoFrame(TrackerError):
    code = "no_frame"


class FrameGone(TrackerError):
    code = "frame_gone"


class RefGone(TrackerError):
    code = "ref_gone"


class TransferGone(TrackerError):
    """An object that is exported or imported in chunks is to be begun again."""

    code = "transfer_gone"


class NoObject(TrackerError):
    code = "no_object"


class AtCapacity(TrackerError):
    code = "at_capacity"


class Forbidden(TrackerError):
    code = "forbidden"


class TooLarge(TrackerError):
    code = "too_large"


class Unavailable(TrackerError):
    code = "unavailable"


class Timeout(Unavailable):
    """The client waited and no reply came."""


class DaemonGone(Timeout):
    """The client listened, nothing came, and the daemon does not answer either."""


class ConfigError(TrackerError):
    """The configuration is wrong; `problems` lists everything, one line each, with the key's path."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ModelError(TrackerError):
    """A model cannot be built, loaded or fetched."""


class SourceError(TrackerError):
    """A source cannot be opened or read. The text never holds credentials."""


def device_is_lost(error: Exception) -> bool:
    """Whether the device is lost with whatever raised this: only a new process gets it back.

    It is torch's word that counts, not that of a server or file whose text an error repeats.
    """
    if not isinstance(error, RuntimeError):
        return False
    return "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError"
