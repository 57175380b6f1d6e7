"""A batch's life, written into a log by the aggregates' own decisions: what tests tell stories with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import msgspec

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.envelope import NewEvent, Origin, new_event
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.subjects import batch_subject, file_subject
from tanda.domain import batch as batches
from tanda.domain import file as files
from tanda.domain.groups import together
from tanda.ports import Blobs, Log

START_MS = 1_795_000_000_000
APPEND_MAX = 1_000


def digest(data: bytes) -> str:
    return sha256(data).hexdigest()


async def put(blobs: Blobs, key: str, data: bytes) -> BlobRef:
    return await blobs.put(key, data, sha256=digest(data), content_type="application/octet-stream")


@dataclass
class BatchStory:
    """One batch; every method appends what it tells of and returns nothing."""

    log: Log
    blobs: Blobs
    tenant: str = "acme"
    number: int = 1
    time_ms: int = START_MS
    state: batches.BatchState = field(default_factory=batches.initial)
    seq: int = 0
    states: dict[str, files.FileState] = field(default_factory=dict)
    seqs: dict[str, int] = field(default_factory=dict)
    file_ids: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batch_id = ids.derived_id(ids.BATCH, START_MS + self.number, self.tenant)

    # -- the batch

    async def create(self, name: str = "noviembre") -> None:
        await self.command(c.CreateBatch(name=name))

    async def seal(self, rejected: int = 0) -> None:
        await self.command(c.SealBatch(total=len(self.file_ids), rejected=rejected))

    async def cancel(self) -> None:
        await self.command(c.CancelBatch())

    async def command(self, command: c.Command) -> None:
        last = await self.log.last(batch_subject(self.tenant, self.batch_id))
        self.seq = last.seq if last else 0
        if last is not None:
            await self._refold()
        new = [
            self._new(batch_subject(self.tenant, self.batch_id), event, self.seq)
            for event in batches.decide(self.state, command)
        ]
        self.seq = (await self.log.append(new))[-1]
        self.state = batches.evolve(self.state, new[-1].event)

    # -- its files

    async def upload(self, contents: Sequence[bytes], *, pack: bool = False) -> None:
        """Stores and queues files, each an object of its own or all in one."""
        packed = b"".join(contents)
        offset = 0
        commands: list[c.QueueFile] = []
        for content in contents:
            index = len(self.file_ids)
            self.file_ids.append(ids.file_id(self.batch_id, str(index)))
            whole = packed if pack else content
            key = f"t/{self.tenant}/{self.batch_id}/src/{digest(whole)}"
            if not pack:
                await put(self.blobs, key, whole)
            source = BlobRef(
                key=key, offset=offset if pack else 0, bytes=len(content), sha256=digest(content)
            )
            offset += len(content)
            commands.append(
                c.QueueFile(
                    name=f"factura-{index}.xml",
                    index=index,
                    content_type="application/xml",
                    bytes=len(content),
                    sha256=source.sha256,
                    source=source,
                    processor="noop",
                )
            )
        if pack:
            await put(self.blobs, f"t/{self.tenant}/{self.batch_id}/src/{digest(packed)}", packed)
        first = len(self.file_ids) - len(contents)
        await self.each({self.file_ids[first + n]: command for n, command in enumerate(commands)})

    async def upload_together(self, contents: Sequence[bytes], **more: dict[str, Any]) -> None:
        """Stores files in one object and queues them as a whole upload does: in groups, if they are many.

        ``more`` is what a file has otherwise, by its name without the ending.
        """
        packed = b"".join(contents)
        key = f"t/{self.tenant}/{self.batch_id}/src/{digest(packed)}"
        await put(self.blobs, key, packed)
        told: list[tuple[str, e.Event]] = []
        for index, content in enumerate(contents):
            source = BlobRef(
                key=key, offset=sum(map(len, contents[:index])), bytes=len(content), sha256=digest(content)
            )
            queued = e.FileQueued(
                name=f"f{index}.txt", index=index, content_type="text/plain", bytes=len(content),
                sha256=source.sha256, source=source, processor="noop", effort=1,
            )  # fmt: skip
            self.file_ids.append(ids.indexed_file_id(self.batch_id, index))
            told.append((self.file_ids[-1], msgspec.structs.replace(queued, **more.get(f"f{index}", {}))))
        for token, event in together(told):
            await self.log.append([self._new(file_subject(self.tenant, self.batch_id, token), event, 0)])

    async def queue_with(self, processor: str, content: bytes, name: str, **options: Any) -> None:
        """Stores and queues one file for a processor."""
        index = len(self.file_ids)
        self.file_ids.append(ids.file_id(self.batch_id, str(index)))
        key = f"t/{self.tenant}/{self.batch_id}/src/{digest(content)}"
        source = await put(self.blobs, key, content)
        command = c.QueueFile(
            name=name, index=index, content_type="application/xml", bytes=len(content),
            sha256=source.sha256, source=source, processor=processor, options=options,
        )  # fmt: skip
        await self.each({self.file_ids[index]: command})

    async def reject(self, name: str = "virus.exe") -> None:
        index = len(self.file_ids)
        self.file_ids.append(ids.file_id(self.batch_id, str(index)))
        await self.each(
            {
                self.file_ids[index]: c.RejectFile(
                    name=name, index=index, content_type="application/x-msdownload", bytes=7,
                    error=FileError(code="unsupported_type", message="No processor takes it."),
                )
            }
        )  # fmt: skip

    async def start(self, *numbers: int, version: str = "1") -> None:
        command = c.StartFile(worker="w1", processor="noop", processor_version=version)
        await self.each({self.file_ids[n]: command for n in numbers})

    async def complete(self, *numbers: int, version: str = "1", result: Any = None) -> None:
        await self.start(*numbers, version=version)
        outcomes: dict[str, c.Command] = {}
        for n in numbers:
            data = json.dumps(result if result is not None else {"número": n}, ensure_ascii=False).encode()
            outcomes[self.file_ids[n]] = c.CompleteFile(
                processor="noop", processor_version=version, duration_ms=1, result_sha256=digest(data),
                result_bytes=len(data), result=msgspec.Raw(data),
            )  # fmt: skip
        await self.each(outcomes)

    async def complete_large(self, number: int, data: bytes) -> None:
        """A result that is an object of its own."""
        await self.start(number)
        ref = await put(self.blobs, f"t/{self.tenant}/{self.batch_id}/out/{digest(data)}", data)
        command = c.CompleteFile(
            processor="noop", processor_version="1", duration_ms=1, result_sha256=digest(data),
            result_bytes=len(data), result=e.NO_RESULT, result_ref=ref,
        )  # fmt: skip
        await self.each({self.file_ids[number]: command})

    async def fail(self, *numbers: int) -> None:
        await self.start(*numbers)
        command = c.FailFile(error=FileError(code="not_an_invoice", message="It is a poem."))
        await self.each({self.file_ids[n]: command for n in numbers})

    async def cancel_files(self, *numbers: int) -> None:
        await self.each({self.file_ids[n]: c.CancelFile() for n in numbers})

    async def half_way(self) -> None:
        """Three files and a rejected one, sealed; the first has completed, the second failed."""
        await self.create()
        await self.upload([b"uno", b"dos", b"tres"])
        await self.reject()
        await self.seal(rejected=1)
        await self.complete(0)
        await self.fail(1)

    async def retry(self, *numbers: int) -> None:
        """The batch's event and, after it, each file's."""
        await self.command(c.RetryFiles(file_ids=[self.file_ids[n] for n in numbers]))
        await self.requeue(*numbers)

    async def requeue(self, *numbers: int) -> None:
        await self.each({self.file_ids[n]: c.RequeueFile(forced=True) for n in numbers})

    async def each(self, commands: dict[str, Any]) -> None:
        """One command for each of some files, in appends of at most a thousand."""
        news: list[tuple[str, NewEvent]] = []
        for file_id, command in commands.items():
            state = self.states.get(file_id, files.initial())
            (event,) = files.decide(state, command)
            self.states[file_id] = files.evolve(state, event)
            subject = file_subject(self.tenant, self.batch_id, file_id)
            news.append((file_id, self._new(subject, event, self.seqs.get(file_id, 0))))
        for start in range(0, len(news), APPEND_MAX):
            chunk = news[start : start + APPEND_MAX]
            seqs = await self.log.append([new for _, new in chunk])
            self.seqs.update({file_id: seq for (file_id, _), seq in zip(chunk, seqs, strict=True)})

    def _new(self, subject: str, event: e.Event, expected_seq: int) -> NewEvent:
        self.time_ms += 1
        return new_event(
            subject, event, expected_seq=expected_seq, time_ms=self.time_ms, origin=Origin(source="/test/1")
        )

    async def _refold(self) -> None:
        self.state = batches.initial()
        async for records in self.log.read(batch_subject(self.tenant, self.batch_id)):
            for record in records:
                self.state = batches.evolve(self.state, record.event)
