"""The type of a ZeroMQ socket that sends and receives bytes."""

from typing import TypeAlias

import zmq

Socket: TypeAlias = "zmq.Socket[bytes]"
