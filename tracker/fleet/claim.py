"""Whose a stream is: its claim and its place, both written by compare-and-set under the owner's token."""

import msgspec
from msgspec import structs

from tracker.fleet.buckets import Buckets, compare_and_delete, compare_and_set, entry_of
from tracker.fleet.records import EPOCHS_BLOCK, FRAMES_BLOCK, MAX_MESSAGE_CHARS, MAX_NUMBER, Claim, Hold, decoded
from tracker.protocol.placement import Token, Where, key_of, where_of
from tracker.protocol.records import StreamRecord


class Superseded(Exception):
    """Somebody else has a greater token."""


class Ownership:
    """Of one stream, by one token. What writes raises Superseded where the stream is not ours any more."""

    def __init__(self, buckets: Buckets, stream: str, token: Token) -> None:
        self.stream = stream
        self.token = token
        self._buckets = buckets
        self._key = key_of(stream)
        self._claim: Claim | None = None
        self._claim_revision = 0
        self._where_revision = 0

    @property
    def claim(self) -> Claim:
        assert self._claim is not None, "made before anything else"
        return self._claim

    async def make(self, box: str) -> Claim | None:
        """Claim the stream. Returns the claim that ours comes after; Superseded where that is not an older one."""
        entry = await entry_of(self._buckets.claims, self._key)
        before: Claim | None = decoded(entry.value, Claim)
        if before is not None and before.token >= self.token:
            raise Superseded
        claim = Claim(
            owner=str(self.token),
            box=box,
            frames_end=_end_of_next(before.frames_end if before else 0, FRAMES_BLOCK),
            epochs_end=_end_of_next(before.epochs_end if before else 0, EPOCHS_BLOCK),
            bundle=before.bundle if before else None,
        )
        self._claim_revision = entry.revision
        await self._write(claim)
        return before

    async def go_on(self) -> Hold:
        """With our own claim, which this process has not made. Raises Superseded where it has no hold."""
        claim = await self._read()
        if claim is None or claim.token != self.token or claim.hold is None:
            raise Superseded
        self._claim = claim
        return claim.hold

    async def look(self) -> None:
        """See whether somebody else has claimed the stream, after a time in which that was not heard."""
        if await self._read() is None:
            raise self._unclaimed()

    async def refound(self) -> None:
        """Claim the stream again, where NATS has lost what it stored."""
        self._where_revision = 0
        await self._read()
        await self._write(self.claim)

    async def refuse(self, message: str) -> None:
        """Say why the stream is not served."""
        await self._write(structs.replace(self.claim, message=message[:MAX_MESSAGE_CHARS], hold=None))

    async def reserve(self, record: StreamRecord) -> None:
        """Move the block of our numbers up where the daemon counts from higher ones."""
        frames_end = max(self.claim.frames_end, record.decoded + FRAMES_BLOCK // 2)
        epochs_end = max(self.claim.epochs_end, record.epoch + EPOCHS_BLOCK // 2)
        claim = structs.replace(
            self.claim, frames_end=min(frames_end, MAX_NUMBER), epochs_end=min(epochs_end, MAX_NUMBER)
        )
        if claim != self.claim:
            await self._write(claim)

    @property
    def first_numbers(self) -> tuple[int, int]:
        """The first frame and epoch of the block of numbers that was reserved last."""
        return self.claim.frames_end - FRAMES_BLOCK, self.claim.epochs_end - EPOCHS_BLOCK

    async def next_block(self) -> tuple[int, int]:
        """The first frame and epoch of a new block of numbers."""
        frames_end = _end_of_next(self.claim.frames_end, FRAMES_BLOCK)
        epochs_end = _end_of_next(self.claim.epochs_end, EPOCHS_BLOCK)
        await self._write(structs.replace(self.claim, frames_end=frames_end, epochs_end=epochs_end, hold=None))
        return self.first_numbers

    async def point_at_own_bundle(self, hold: Hold | None = None) -> None:
        """Say that the objects stored under our token are those that count."""
        claim = structs.replace(self.claim, bundle=str(self.token), message=None, hold=hold)
        if claim == self.claim:
            await self._own()
        else:
            await self._write(claim)

    async def announce(self, where: Where) -> bool:
        """Renew the stream's place; False where somebody wrote meanwhile, and it is to be tried again."""
        bucket, data = self._buckets.where, msgspec.json.encode(where)
        if self._where_revision:
            revision = await compare_and_set(bucket, self._key, data, self._where_revision)
            if revision is not None:
                self._where_revision = revision
                return True
        entry = await entry_of(bucket, self._key)
        there = where_of(entry.value or b"")
        if there is not None and there.token > self.token:
            raise Superseded
        self._where_revision = await compare_and_set(bucket, self._key, data, entry.revision) or 0
        return self._where_revision > 0

    async def successor_is_live(self) -> bool:
        where = where_of((await entry_of(self._buckets.where, self._key)).value or b"")
        return where is not None and where.token > self.token and where.state == "live"

    async def bundle_is_replaced(self) -> bool:
        """Whether the objects that count are those of an owner after us, or nobody wants any."""
        claim: Claim | None = decoded((await entry_of(self._buckets.claims, self._key)).value, Claim)
        return claim is None or (claim.bundle is not None and Token.parse(claim.bundle) > self.token)

    async def end(self) -> None:
        """Forget claim and place: nobody wants the stream any more."""
        await compare_and_delete(self._buckets.claims, self._key, self._claim_revision)
        await compare_and_delete(self._buckets.where, self._key, self._where_revision)

    async def _write(self, claim: Claim) -> None:
        bucket, data = self._buckets.claims, msgspec.json.encode(claim)
        revision = await compare_and_set(bucket, self._key, data, self._claim_revision)
        if revision is None:  # by somebody else, or by ourselves, and the answer was lost
            await self._own()
            revision = await compare_and_set(bucket, self._key, data, self._claim_revision)
        if revision is None:
            raise Superseded
        self._claim, self._claim_revision = claim, revision

    async def _own(self) -> None:
        """See that the claim is ours."""
        claim = await self._read()
        if claim is None:
            raise self._unclaimed()
        if claim.token != self.token:
            raise Superseded

    async def _read(self) -> Claim | None:
        """The claim as it is now, which what is written next comes after."""
        entry = await entry_of(self._buckets.claims, self._key)
        claim: Claim | None = decoded(entry.value, Claim)
        if claim is not None and claim.token > self.token:
            raise Superseded
        self._claim_revision = entry.revision if claim is not None else 0  # over its removal we write nothing
        return claim

    def _unclaimed(self) -> TimeoutError:
        """It is told soon whether nobody wants the stream any more, somebody else has it, or NATS has lost all."""
        return TimeoutError(f"{self.stream!r} has no claim")


def _end_of_next(end: int, block: int) -> int:
    """Of the block of numbers after this one. Only what a stranger wrote comes to the end of all numbers."""
    return end + block if end + block <= MAX_NUMBER else block
