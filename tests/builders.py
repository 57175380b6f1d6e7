"""Random lives of batches: commands at random, and whatever the aggregates decide goes into the log."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.results import BlobRef, FileError, StoredArtifact, Usage
from tanda.contracts.subjects import batch_subject, file_subject, group_token
from tanda.contracts.times import rfc3339
from tanda.domain import batch as batches
from tanda.domain import file as one_file
from tanda.domain.errors import Refusal
from tanda.ports import Log

START_MS = 1_795_000_000_000
ORIGIN = Origin(source="/test/1")


def blob(content: str) -> BlobRef:
    """A reference to bytes that nobody stored."""
    digest = sha256(content.encode()).hexdigest()
    return BlobRef(key=f"t/src/{digest}", bytes=len(content), sha256=digest)


@dataclass
class RandomBatch:
    """A batch and its files, as their aggregates know them."""

    tenant: str
    batch_id: str
    batch: batches.BatchState = field(default_factory=batches.initial)
    seqs: dict[str, int] = field(default_factory=dict)
    files: dict[str, one_file.FileState] = field(default_factory=dict)
    #: The files that are told as one; None before there are any, none of them afterwards.
    group: list[str] | None = None
    archived: set[str] = field(default_factory=set)


class RandomBatches:
    """Appends random but possible events; the same seed tells the same story."""

    def __init__(self, log: Log, seed: int, *, batches_max: int = 5, files_max: int = 12) -> None:
        self.log = log
        self.random = Random(seed)
        self.batches: list[RandomBatch] = []
        self._batches_max = batches_max
        self._files_max = files_max
        self._time_ms = START_MS + seed

    async def run(self, events: int) -> None:
        """Appends about this many events."""
        end = await self.log.position() + events
        while await self.log.position() < end:
            await self.step()

    async def step(self) -> None:
        """One command that may be refused, to a batch or one of its files."""
        self._time_ms += self.random.choice([1, 40, 900, 70_000])
        if len(self.batches) < self._batches_max and self.random.random() < 0.1:
            await self._create()
        elif self.batches:
            one = self.random.choice(self.batches)
            await self.random.choices([self._batch, self._new_file, self._file], [1, 3, 12])[0](one)

    async def _create(self) -> None:
        tenant = self.random.choice(["acme", "zeta"])
        one = RandomBatch(tenant, ids.derived_id(ids.BATCH, self._time_ms, tenant, str(len(self.batches))))
        self.batches.append(one)
        name = self.random.choice(["noviembre", "Año Ñandú", "nul \0 here"])
        command = c.CreateBatch(name=name, tags=self.random.choice([[], ["a", "b"]]), metadata={"k": "\0"})
        await self._decide_batch(one, command)

    async def _batch(self, one: RandomBatch) -> None:
        commands: list[Callable[[], c.Command]] = [
            lambda: c.SealBatch(total=len(one.files), bytes=7),
            c.PauseBatch,
            c.ResumeBatch,
            c.ResumeBatch,
            lambda: c.RetryFiles(file_ids=self._some(one)),
            lambda: c.RetryFiles(file_ids=self._some(one), total=40),
            lambda: c.ChangeBatch(changed=["priority", "limit"], priority="bulk", limit=3),
            lambda: c.ChangeBatch(changed=["start_at", "expires_at", "limit"], expires_at=rfc3339(START_MS)),
            lambda: c.CompleteBatch(through_seq=1, results=blob("r"), counts=_counts(one)),
            lambda: c.CompleteBatch(through_seq=1, results=blob("r"), counts=_counts(one)),
            lambda: c.ArchiveSources(sources={name: blob("a" + name) for name in self._due(one)}),
            *(
                partial(c.ForceArchiveSource, file_id=name, source=blob("f" + name), reason="x")
                for name in self._in_place(one)[:1]
            ),
        ]
        if self.random.random() < 0.2:
            commands.append(c.CancelBatch)
        await self._decide_batch(one, self.random.choice(commands)())

    async def _new_file(self, one: RandomBatch) -> None:
        room = self._files_max - len(one.files)
        if one.batch.phase != "open" or room < 1:
            return
        if room > 1 and one.group is None and self.random.random() < 0.4:
            await self._new_group(one, self.random.randint(2, min(room, 5)))
            return
        file_id, command = self._queueing(one)
        if self.random.random() < 0.1:
            error = FileError(code="unsupported_type", message="No.")
            command = c.RejectFile(**_found(command.index), error=error)
        await self._decide_file(one, file_id, command)

    async def _new_group(self, one: RandomBatch, size: int) -> None:
        queued: list[tuple[str, e.FileQueued]] = []
        for _ in range(size):
            file_id, command = self._queueing(one)
            (event,) = one_file.decide(one_file.initial(), command)
            assert isinstance(event, e.FileQueued)
            queued.append((file_id, event))
            one.files[file_id] = one_file.evolve(one_file.initial(), event)
        one.group = [file_id for file_id, _ in queued]
        await self._append_to_group(one, e.FilesQueued(files=queued))

    async def _end_group(self, one: RandomBatch) -> None:
        """Its files are completed as one, or go on by themselves."""
        members, one.group = one.group or [], []
        if self.random.random() < 0.4:
            await self._append_to_group(one, e.FilesParted())
            return
        completed: list[tuple[str, e.FileCompleted]] = []
        for file_id in members:
            at_once = msgspec.structs.replace(self._completion(), started_at=rfc3339(self._time_ms - 30))
            (event,) = one_file.decide(one.files[file_id], at_once)
            assert isinstance(event, e.FileCompleted)
            completed.append((file_id, event))
            one.files[file_id] = one_file.evolve(one.files[file_id], event)
        await self._append_to_group(one, e.FilesCompleted(files=completed))

    async def _append_to_group(self, one: RandomBatch, event: e.Event) -> None:
        # So small a batch has no more than one.
        await self._append(one, file_subject(one.tenant, one.batch_id, group_token(0)), event)

    def _queueing(self, one: RandomBatch) -> tuple[str, c.QueueFile]:
        index = len(one.files)
        file_id = ids.indexed_file_id(one.batch_id, index)
        processor = ("invoice", "image")[index % 2]
        return file_id, c.QueueFile(
            **_found(index), sha256="ab", source=blob(file_id), processor=processor
        )  # fmt: skip

    async def _file(self, one: RandomBatch) -> None:
        if not one.files:
            return
        error = FileError(code="bad", message="Nul \0 inside.", retryable=True)
        retry_at = rfc3339(self._time_ms + 10_000)
        provider = self.random.choice([None, None, "http-x"])
        start = c.StartFile(worker="w1", processor="invoice", processor_version="1", provider=provider)
        command = self.random.choice(
            [
                start, start, start, start, self._completion(), self._completion(), self._completion(),
                msgspec.structs.replace(self._completion(), started_at=rfc3339(self._time_ms - 30)),
                c.FailFile(error=error, duration_ms=5), c.FailFile(error=error, retry_at=retry_at),
                c.FailFile(error=error, duration_ms=5, provider="http-x", quarantined=True),
                c.RequeueFile(), c.RequeueFile(), c.RequeueFile(forced=self.random.random() < 0.3),
                c.CancelFile() if self.random.random() < 0.1 else start,
                c.AwaitFile(token_sha256="ab", deadline=retry_at),
            ]
        )  # fmt: skip
        file_id = self.random.choice(list(one.files))
        if file_id in (one.group or []):
            await self._end_group(one)
        await self._decide_file(one, file_id, command)

    def _completion(self) -> c.CompleteFile:
        artifact = StoredArtifact(name="vista 1.png", content_type="image/png", blob=blob("png"))
        return c.CompleteFile(
            processor="invoice", processor_version="1", duration_ms=self.random.randrange(4_000),
            result_sha256="ab", result_bytes=9, result=msgspec.Raw(b'{"a":"b"}'),
            artifacts=self.random.choice([[], [artifact]]),
            warnings=self.random.choice([[], ["no_text_layer"]]),
            usage=self.random.choice([None, Usage(provider="llm-x", model="m", input_tokens=3, usd=0.5)]),
            reused=self.random.random() < 0.3,
        )  # fmt: skip

    def _some(self, one: RandomBatch) -> list[str]:
        return [name for name in one.files if self.random.random() < 0.5]

    def _due(self, one: RandomBatch) -> list[str]:
        """Storage archives what is completed, each file once."""
        return [name for name in self._in_place(one) if one.files[name].status == "completed"]

    def _in_place(self, one: RandomBatch) -> list[str]:
        """Of some files, those whose source is where it was stored."""
        return [
            name
            for name in self._some(one)
            if one.files[name].status not in (None, "rejected") and name not in one.archived
        ]

    async def _decide_batch(self, one: RandomBatch, command: c.Command) -> None:
        try:
            events = batches.decide(one.batch, command)
        except Refusal:
            return
        for event in events:
            await self._append(one, batch_subject(one.tenant, one.batch_id), event)
            one.batch = batches.evolve(one.batch, event)

    async def _decide_file(self, one: RandomBatch, file_id: str, command: c.Command) -> None:
        state = one.files.get(file_id, one_file.initial())
        try:
            events = one_file.decide(state, command)
        except Refusal:
            return
        for event in events:
            await self._append(one, file_subject(one.tenant, one.batch_id, file_id), event)
            state = one_file.evolve(state, event)
        one.files[file_id] = state

    async def _append(self, one: RandomBatch, subject: str, event: e.Event) -> None:
        new: NewEvent = new_event(
            subject, event, expected_seq=one.seqs.get(subject, 0), time_ms=self._time_ms, origin=ORIGIN
        )
        (one.seqs[subject],) = await self.log.append([new])
        if isinstance(event, e.SourcesArchived):
            one.archived.update(event.sources)
        elif isinstance(event, e.SourceForceArchived):
            one.archived.add(event.file_id)


def _found(index: int) -> dict[str, Any]:
    return {"name": f"Factura {index}.XML", "index": index, "content_type": "application/xml", "bytes": 7}


def _counts(one: RandomBatch) -> dict[e.FileStatus, int]:
    counts: dict[e.FileStatus, int] = {}
    for state in one.files.values():
        if state.status is not None:
            counts[state.status] = counts.get(state.status, 0) + 1
    return counts
