"""The use cases that write to the log: create, open, add a file, seal, and the batch commands.

The order is always the same: bytes durable, then the events, then the answer. Events may be sent
before that, but for the one that commits them (``draft``). A batch of many files is written in atomic
chunks and exists only once its ``BatchSealed`` is there.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import msgspec
import structlog

from services.gateway.batches.draft import Draft, NewFile, Told, Written
from services.gateway.batches.turns import Turns
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import FOLLOWS, NewEvent, Origin, Recorded, new_event, recorded, singly
from tanda.contracts.subjects import batch_all, batch_subject, file_subject
from tanda.domain import batch, file
from tanda.domain.errors import Conflict, NotFound, Refusal, Unavailable
from tanda.domain.groups import together
from tanda.ports import Log

#: What the log takes in one atomic append.
CHUNK_EVENTS = 1_000
#: Files of one append of a whole batch, most of them in groups: some 3 MB.
CHUNK_FILES = 6_000
#: Of one batch: while the log syncs one chunk to its disk, it takes in the next.
CHUNKS_AT_ONCE = 3
#: How often a decision is taken again where another writer was first.
DECISIONS_MAX = 8
FIRST_WAIT_S = 0.1
OPEN_BATCHES_KNOWN_MAX = 1_000
BATCHES_KNOWN_MAX = 10_000
#: Files whose events are made in one go, some 4 ms.
TURN_FILES = 500

T = TypeVar("T")
U = TypeVar("U")

logger = structlog.get_logger(__name__)


class Known(NamedTuple):
    """What never changes of a batch."""

    tenant: str
    #: The log has it by then.
    seq: int


class Accept:
    """Decides and appends; knows no HTTP."""

    def __init__(self, log: Log, source: str, patience_s: float, now_ms: Callable[[], int]) -> None:
        self._log = log
        self._source = source
        self._patience_s = patience_s
        self.now_ms = now_ms
        #: A PUT and a seal of the same batch do not overlap within this process.
        self._turns = Turns()
        self._next_indices: dict[str, int] = {}
        self._known: dict[str, Known] = {}

    def origin(self, command: str | None = None, actor: str | None = None) -> Origin:
        return Origin(source=self._source, command=command, actor=actor)

    # -- a whole batch

    async def draft(
        self, tenant: str, batch_id: str, command: c.CreateBatch, files: Sequence[NewFile], origin: Origin
    ) -> Draft:
        """All that can be done for a batch with all its files while their bytes are not durable yet."""
        if not files:
            raise Refusal("empty_batch", "A batch needs at least one file.")
        now = self.now_ms()
        (created,) = batch.decide(batch.initial(), command)
        head = new_event(batch_subject(tenant, batch_id), created, expected_seq=0, time_ms=now, origin=origin)
        told = await in_turns(files, lambda one: (one.file_id, self._first_event(one)))
        portion, *rest = _portions(together(told))
        first = [head, *self._new_events(tenant, batch_id, portion, now, origin)]
        sealed: e.Event | None = _seal_after([created], files)
        if not rest and len(first) < CHUNK_EVENTS:
            first.append(new_event(head.subject, sealed, expected_seq=FOLLOWS, time_ms=now, origin=origin))
            sealed = None
        return Draft(
            tenant=tenant,
            batch_id=batch_id,
            files=files,
            origin=origin,
            time_ms=now,
            first=first,
            staged=await self._log.stage(first),
            rest=rest,
            sealed=sealed,
        )

    async def create(self, draft: Draft) -> Written:
        """Writes a batch with all its files; where it is there already, finishes or returns it."""
        try:
            records = await self._write_whole(draft)
        except Conflict:
            return await self._finish_whole(draft.tenant, draft.batch_id, draft.files, draft.origin)
        self._know(records[-1])
        return Written(tenant=draft.tenant, batch_id=draft.batch_id, records=records)

    async def _write_whole(self, draft: Draft) -> list[Recorded]:
        tenant, batch_id, now, origin = draft.tenant, draft.batch_id, draft.time_ms, draft.origin
        records = await self.append(draft.first, draft.staged)
        if draft.sealed is None:
            return records
        subject = batch_subject(tenant, batch_id)
        tail = new_event(subject, draft.sealed, expected_seq=records[0].seq, time_ms=now, origin=origin)
        return records + await self._append_chunks(tenant, batch_id, draft.rest, now, origin, tail)

    async def _finish_whole(
        self, tenant: str, batch_id: str, files: Sequence[NewFile], origin: Origin
    ) -> Written:
        """An earlier try of the same request got this far: write what is missing, or nothing."""
        there = await self._read(tenant, batch_id)
        if not there:
            raise Unavailable("nats", "the batch conflicts with one that cannot be read")
        if state_of(there).sealed:
            return Written(tenant=tenant, batch_id=batch_id, records=there, repeated=True)
        told = together((one.file_id, self._first_event(one)) for one in files)
        missing = _missing(told, [record.event for record in there])
        now = self.now_ms()
        sealed = _seal_after([one.event for one in there if one.file_id is None], files)
        last = last_of_batch(there)
        tail = new_event(
            batch_subject(tenant, batch_id), sealed, expected_seq=last, time_ms=now, origin=origin
        )
        records = there + await self._append_chunks(tenant, batch_id, _portions(missing), now, origin, tail)
        return Written(tenant=tenant, batch_id=batch_id, records=records)

    def _first_event(self, one: NewFile) -> e.Event:
        return file.decide(file.initial(), one.command)[0]

    def _new_events(self, tenant: str, batch_id: str, told: Told, now: int, origin: Origin) -> list[NewEvent]:
        """First events, by file or group."""
        return [
            new_event(file_subject(tenant, batch_id, one), event, expected_seq=0, time_ms=now, origin=origin)
            for one, event in told
        ]

    def _file_event(self, tenant: str, batch_id: str, one: NewFile, now: int, origin: Origin) -> NewEvent:
        (event,) = self._new_events(tenant, batch_id, [(one.file_id, self._first_event(one))], now, origin)
        return event

    # -- file by file

    async def open(self, tenant: str, batch_id: str, command: c.CreateBatch, origin: Origin) -> Written:
        """An empty batch that files are added to."""
        (created,) = batch.decide(batch.initial(), command)
        event = new_event(
            batch_subject(tenant, batch_id), created, expected_seq=0, time_ms=self.now_ms(), origin=origin
        )
        try:
            return Written(tenant=tenant, batch_id=batch_id, records=await self.append([event]))
        except Conflict:
            there = await self._read(tenant, batch_id)
            return Written(tenant=tenant, batch_id=batch_id, records=there, repeated=True)

    async def batch_created(self, tenant: str, batch_id: str) -> tuple[batch.BatchState, e.BatchCreated]:
        """A batch's state and its first event; NotFound where there is none."""
        records = await self.batch_records(tenant, batch_id)
        created = records[0].event
        assert isinstance(created, e.BatchCreated), "a batch begins with its creation"
        return state_of(records), created

    async def file_there(self, tenant: str, batch_id: str, file_id: str) -> Recorded | None:
        """The first event of a file, which tells its digest, else None."""
        async for records in self._log.read(file_subject(tenant, batch_id, file_id)):
            return records[0]
        return None

    async def add_file(
        self, tenant: str, batch_id: str, one: NewFile, origin: Origin, *, has_index: bool
    ) -> tuple[Recorded, bool]:
        """Adds a file to an open batch; False where the same file was there before."""
        async with self._turns.of(batch_id):
            state, _ = await self.batch_created(tenant, batch_id)
            check_open(state)
            index = await self._next_index(tenant, batch_id)
            if not has_index:
                one = msgspec.structs.replace(one, command=msgspec.structs.replace(one.command, index=index))
            event = self._file_event(tenant, batch_id, one, self.now_ms(), origin)
            try:
                (record,) = await self.append([event])
                self._next_indices[batch_id] = index + 1
                return record, True
            except Conflict:
                there = await self.file_there(tenant, batch_id, one.file_id)
                assert there is not None, "what conflicts is there"
                check_same_file(there, one.command.sha256)
                return there, False

    async def add_files(
        self, tenant: str, batch_id: str, files: Sequence[NewFile], origin: Origin
    ) -> tuple[int, int]:
        """Adds files to an open batch in one append; how many are new, and the last position.

        Those that were there before are left as they are, so a repeat adds what is missing.
        """
        async with self._turns.of(batch_id):
            records = await self.batch_records(tenant, batch_id)
            check_open(state_of(records))
            now = self.now_ms()
            try:
                added = await self.append(
                    [self._file_event(tenant, batch_id, one, now, origin) for one in files]
                )
            except Conflict:
                missing = [one for one in files if not await self._is_there(tenant, batch_id, one)]
                told = [(one.file_id, self._first_event(one)) for one in missing]
                added = await self._append_chunks(tenant, batch_id, _portions(told), now, origin)
            if batch_id in self._next_indices:
                self._next_indices[batch_id] += len(added)
        return len(added), (added or records)[-1].seq

    async def _is_there(self, tenant: str, batch_id: str, one: NewFile) -> bool:
        there = await self.file_there(tenant, batch_id, one.file_id)
        if there is not None:
            check_same_file(there, one.command.sha256)
        return there is not None

    async def seal(self, tenant: str, batch_id: str, origin: Origin) -> Written:
        """Closes an open batch over the files that are in it."""
        async with self._turns.of(batch_id):
            there = await self.all_records(tenant, batch_id)
            command = _seal_command(there)
            (sealed,) = batch.decide(state_of(there), command)
            event = new_event(
                batch_subject(tenant, batch_id),
                sealed,
                expected_seq=last_of_batch(there),
                time_ms=self.now_ms(),
                origin=origin,
            )
            records = there + await self.append([event])
        return Written(tenant=tenant, batch_id=batch_id, records=records)

    # -- commands of a batch

    async def command(self, tenant: str, batch_id: str, command: c.Command, origin: Origin) -> int:
        """Decides on the batch as it is and appends; returns the position."""
        for _ in range(DECISIONS_MAX):
            records = await self.batch_records(tenant, batch_id)
            events = batch.decide(state_of(records), command)
            new = new_event(
                batch_subject(tenant, batch_id),
                events[0],
                expected_seq=records[-1].seq,
                time_ms=self.now_ms(),
                origin=origin,
            )
            try:
                return (await self.append([new]))[0].seq
            except Conflict:
                continue
        raise Unavailable("nats", "the batch is being written by others all the time")

    # -- reading and writing

    async def tenant_of(self, batch_id: str) -> str | None:
        """Whose batch it is: for the operator, who may ask for any."""
        if not ids.is_id(batch_id, ids.BATCH):
            return None
        if (known := self.known(batch_id)) is not None:
            return known.tenant
        async for records in self._log.read(batch_subject("*", batch_id)):
            self._know(records[0])
            return records[0].tenant
        return None

    def known(self, batch_id: str) -> Known | None:
        """What this process has learned of a batch, if it came up lately."""
        return self._known.get(batch_id)

    def _know(self, record: Recorded) -> None:
        if len(self._known) >= BATCHES_KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[record.batch_id] = Known(record.tenant, record.seq)

    async def batch_records(self, tenant: str, batch_id: str) -> list[Recorded]:
        """The batch's own events; NotFound where there is no such batch."""
        if not ids.is_id(batch_id, ids.BATCH):
            raise batch_not_found()
        found: list[Recorded] = []
        async for records in self._log.read(batch_subject(tenant, batch_id)):
            found += records
        if not found:
            raise batch_not_found()
        return found

    async def all_records(self, tenant: str, batch_id: str) -> list[Recorded]:
        """The events of the batch and of its files; NotFound where there are none."""
        records = await self._read(tenant, batch_id)
        if not records:
            raise batch_not_found()
        return records

    async def _next_index(self, tenant: str, batch_id: str) -> int:
        """A file's place where its client names none: after those that are there."""
        if batch_id not in self._next_indices:
            there = await self._read(tenant, batch_id)
            while len(self._next_indices) >= OPEN_BATCHES_KNOWN_MAX:
                self._next_indices.pop(next(iter(self._next_indices)))
            self._next_indices[batch_id] = len({record.file_id for record in there} - {None})
        return self._next_indices[batch_id]

    async def _read(self, tenant: str, batch_id: str) -> list[Recorded]:
        if not ids.is_id(batch_id, ids.BATCH):
            raise batch_not_found()
        found: list[Recorded] = []
        async for records in self._log.read(batch_all(tenant, batch_id)):
            found += singly(records)
        return found

    async def _append_chunks(
        self,
        tenant: str,
        batch_id: str,
        chunks: Sequence[Told],
        now: int,
        origin: Origin,
        seal: NewEvent | None = None,
    ) -> list[Recorded]:
        """First events in chunks, a few under way at once, and once all are there the seal with the last.

        A chunk is encoded when its turn comes, while the log is busy with those before it.
        """
        room = asyncio.Semaphore(CHUNKS_AT_ONCE)

        async def write(chunk: Told, *more: NewEvent) -> list[Recorded]:
            async with room:
                events = self._new_events(tenant, batch_id, chunk, now, origin)
                return await self.append([*events, *more])

        some = [chunk for chunk in chunks if chunk]
        last = some.pop() if some and seal is not None else ()
        outcomes = await asyncio.gather(*map(write, some), return_exceptions=True)
        records: list[Recorded] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            records += outcome
        return records if seal is None else records + await write(last, seal)

    async def append(self, events: Sequence[NewEvent], staged: str = "") -> list[Recorded]:
        """Writes events in one atomic append, again while the outcome is unknown.

        The ids are the same, so nothing is written twice.
        """
        deadline = time.monotonic() + self._patience_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                seqs = await self._log.append(events, staged)
            except Unavailable as error:
                if time.monotonic() + wait_s > deadline:
                    raise
                logger.warning("An append is repeated.", error=str(error), wait_s=wait_s)
                await asyncio.sleep(wait_s)
                wait_s *= 2
            else:
                return list(map(recorded, events, seqs))


async def in_turns(items: Sequence[T], make: Callable[[T], U]) -> list[U]:
    """What is made of each; other requests get their turn in between."""
    made: list[U] = []
    for start in range(0, len(items), TURN_FILES):
        made += map(make, items[start : start + TURN_FILES])
        await asyncio.sleep(0)
    return made


def _missing(told: Told, there: Sequence[e.Event]) -> Told:
    """The first events that an earlier try did not get to, in the groups that it would have made.

    Files are known by their places: an earlier version may have given them other ids.
    """
    known = {event.index for event in there if isinstance(event, e.FileQueued | e.FileRejected)}
    missing: list[tuple[str, e.Event]] = []
    for token, event in told:
        if isinstance(event, e.FilesQueued):
            files = [one for one in event.files if one[1].index not in known]
            if files:
                missing.append((token, e.FilesQueued(files=files)))
        elif isinstance(event, e.FileQueued | e.FileRejected) and event.index not in known:
            missing.append((token, event))
    return missing


def _portions(events: Told) -> list[Told]:
    """As much as goes into one append beside an event of the batch; an empty one where there is nothing."""
    portions: list[list[tuple[str, e.Event]]] = [[]]
    files = 0
    for one in events:
        size = len(one[1].files) if isinstance(one[1], e.FilesQueued) else 1
        if len(portions[-1]) >= CHUNK_EVENTS - 1 or files + size > CHUNK_FILES:
            portions.append([])
            files = 0
        portions[-1].append(one)
        files += size
    return list(portions)


def batch_not_found() -> NotFound:
    return NotFound("batch_not_found", "There is no such batch.")


def check_open(state: batch.BatchState) -> None:
    """409 where no file can be added any more."""
    if state.phase != "open" or state.sealed:
        phase = "sealed" if state.sealed and state.phase == "open" else str(state.phase)
        raise Refusal("batch_closed", f"No file can be added: the batch is {phase}.", status=409, state=phase)


def check_same_file(there: Recorded, digest: str | None) -> None:
    """409 where a file of this name has other bytes."""
    if digest_of(there) != digest:
        raise Refusal("file_exists", "There is another file of this name in the batch.", status=409)


def digest_of(first: Recorded) -> str | None:
    """Of a file's bytes, by its first event."""
    assert isinstance(first.event, e.FileQueued | e.FileRejected), "a file begins queued or rejected"
    return first.event.sha256


def state_of(records: Sequence[Recorded]) -> batch.BatchState:
    """The batch that its events make, its files' events left aside."""
    state = batch.initial()
    for record in records:
        if record.file_id is None:
            state = batch.evolve(state, record.event)
    return state


def last_of_batch(records: Sequence[Recorded]) -> int:
    """The last position on the batch's own subject: what its next event expects."""
    return max(record.seq for record in records if record.file_id is None)


def _seal_after(batch_events: Sequence[e.Event], files: Sequence[NewFile]) -> e.Event:
    state = batch.initial()
    for event in batch_events:
        state = batch.evolve(state, event)
    rejected = sum(isinstance(one.command, c.RejectFile) for one in files)
    total_bytes = sum(one.command.bytes for one in files)
    command = c.SealBatch(total=len(files), rejected=rejected, bytes=total_bytes)
    return batch.decide(state, command)[0]


def _seal_command(records: Sequence[Recorded]) -> c.SealBatch:
    """Over the first event of every file."""
    firsts: dict[str, e.FileQueued | e.FileRejected] = {}
    for record in records:
        if record.file_id is not None and isinstance(record.event, e.FileQueued | e.FileRejected):
            firsts.setdefault(record.file_id, record.event)
    rejected = sum(isinstance(event, e.FileRejected) for event in firsts.values())
    return c.SealBatch(
        total=len(firsts), rejected=rejected, bytes=sum(event.bytes for event in firsts.values())
    )
