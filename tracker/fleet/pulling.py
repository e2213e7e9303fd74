"""One message after another out of a work queue, for the boxes that share it.

nats-py's own `fetch` takes a message for JetStream's word where it has a header `Status`, which anybody may write:
it is never handed out then, and never ends. Here a message is what has a place to acknowledge it at.
"""

import contextlib
from types import TracebackType

import msgspec
from nats.aio.client import Client as Nats
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

PULL_S = 1.0  # a request for a message is open for so long
ANSWER_S = 1.0  # then JetStream says that there is none
ACKNOWLEDGED_AT = "$JS.ACK."


class Pull:
    """Of one consumer of a stream, which is made where it is not there: at first, and after a silence."""

    def __init__(self, nats: Nats, stream: str, consumer: api.ConsumerConfig) -> None:
        self._nats = nats
        self._js: JetStreamContext = nats.jetstream()
        self._stream = stream
        self._consumer = consumer
        self._is_made = False
        self._inbox = nats.new_inbox()
        self._answers: Subscription | None = None

    async def __aenter__(self) -> "Pull":
        self._answers = await self._nats.subscribe(self._inbox)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._answers is not None
        with contextlib.suppress(NatsError):
            await self._answers.unsubscribe()

    async def next(self) -> Msg | None:
        """None where there is none within PULL_S. Raises the errors of NATS."""
        assert self._answers is not None
        if not self._is_made:
            await ensure_consumer(self._js, self._stream, self._consumer)
            self._is_made = True
        while self._answers.pending_msgs:  # answers that came late
            message = await self._answers.next_msg(timeout=ANSWER_S)
            if _is_message(message):
                return message
        request = msgspec.json.encode({"batch": 1, "expires": int(PULL_S * 1e9)})
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._consumer.durable_name}"
        await self._nats.publish(subject, request, reply=self._inbox)
        try:
            message = await self._answers.next_msg(timeout=PULL_S + ANSWER_S)
        except TimeoutError:  # NATS is away, or somebody removed the consumer: then nobody answers
            self._is_made = False
            return None
        return message if _is_message(message) else None


def _is_message(answer: Msg) -> bool:
    """And not JetStream's word that there is none, or what somebody else sent here."""
    try:
        return answer.reply.startswith(ACKNOWLEDGED_AT) and answer.metadata is not None
    except (NatsError, ValueError):
        return False


async def ensure_consumer(js: JetStreamContext, stream: str, consumer: api.ConsumerConfig) -> None:
    """What is there already stays as it is."""
    assert consumer.durable_name is not None
    try:
        await js.consumer_info(stream, consumer.durable_name)
    except NotFoundError:
        await js.add_consumer(stream, consumer)
