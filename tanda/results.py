"""The result JSON of a batch: built from the log alone, stored once per version, rebuilt when gone.

Built from the same events it is the same bytes, whoever builds it and however often: nothing in it
comes from a clock, from an order of arrival or from the build. One pass over the batch's events keeps
a light record of each file and spools the results themselves, so that memory stays small however
large they are; then the document is written in upload order::

    log.read(batch) ──▶ Fold ──▶ spool ──▶ temporary file ──▶ blobs ──▶ BatchCompleted
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, Any, TypeAlias

import msgspec
import structlog

from tanda.contracts import events as e
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded
from tanda.contracts.events import FINAL_STATUSES, STATUS_AFTER, FileStatus
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.subjects import batch_all
from tanda.domain.errors import LogDamaged, NotFound, WorldFailure
from tanda.ports import Blobs, Log

CONTENT_TYPE = "application/json"

#: Inline results of one build that stay in memory; beyond it they are on disk.
_SPOOL_BYTES = 32 * 1024**2
#: The document is hashed and written, and a large result is read, in pieces of about this size.
_PIECE_BYTES = 1024**2
#: Builds that one process runs at once: each may hold a spool in memory and two on disk.
_BUILDS_MAX = 4
_TEMPORARY = "results-"

_log = structlog.get_logger()


class ResultLost(WorldFailure):
    """A file's result is neither in the log nor in the object store; no document can tell of it."""

    def __init__(self, batch_id: str, file_id: str, key: str) -> None:
        super().__init__(f"{batch_id}: the result of {file_id} is gone or damaged: {key}")
        self.batch_id = batch_id
        self.file_id = file_id
        self.key = key


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A result JSON on this machine's disk; whoever asked for it discards it."""

    path: Path
    bytes: int
    sha256: str
    version: int
    through_seq: int
    #: Files by status; the statuses that nothing is in are left out.
    counts: dict[FileStatus, int]

    def ref(self, key: str) -> BlobRef:
        """Where it is once it is stored under a key."""
        return BlobRef(key=key, bytes=self.bytes, sha256=self.sha256)

    def discard(self) -> None:
        """Removes the file; one that is gone already is no error."""
        self.path.unlink(missing_ok=True)


def results_key(tenant: str, batch_id: str, version: int) -> str:
    """Where a version of a batch's result JSON is in the object store."""
    return f"t/{tenant}/{batch_id}/results/v{version}/{batch_id}_resultados.json"


# -- what the document says -----------------------------------------------------------------------


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    attempt: int


class _Head(msgspec.Struct, frozen=True):
    """An entry up to its result, which is put in as it is."""

    lote_id: str
    archivo_id: str
    nombre: str
    indice: int
    estado: FileStatus
    intentos: int
    sha256: str | None


class _Metadata(msgspec.Struct, frozen=True):
    lote_id: str
    name: str
    generated_at: str
    version: int
    through_seq: int
    counts: dict[str, int]
    processor_versions: dict[str, str]


class _Spooled(msgspec.Struct, frozen=True):
    """A range of the spool."""

    offset: int
    bytes: int


class _File(msgspec.Struct, kw_only=True):
    """What the document says of a file, as of the last event that was folded."""

    file_id: str
    name: str
    index: int
    #: Its place among the batch's files as the log has them: decides between equal indices.
    order: int
    sha256: str | None
    status: FileStatus
    attempt: int
    error: FileError | None = None
    result: _Spooled | BlobRef | None = None
    processor: tuple[str, str] | None = None


# -- the fold -------------------------------------------------------------------------------------


class _Fold:
    """A batch's files as they are after the events so far, with their inline results in a spool."""

    def __init__(self, batch_id: str, spool: IO[bytes]) -> None:
        self.batch_id = batch_id
        self.name: str | None = None
        self.seq = 0
        self.time = ""
        self._files: dict[str, _File] = {}
        self._spool = spool
        self._spooled = 0

    def apply(self, records: Sequence[Recorded]) -> None:
        for record in records:
            self.seq, self.time = record.seq, record.time
            if record.file_id is None:
                if isinstance(record.event, e.BatchCreated):
                    self.name = record.event.name
            else:
                self._file_event(record.file_id, record)

    def files(self) -> list[_File]:
        """Every file, in upload order."""
        return sorted(self._files.values(), key=lambda file: (file.index, file.order))

    def spooled(self, place: _Spooled) -> bytes:
        self._spool.seek(place.offset)
        return self._spool.read(place.bytes)

    def counts(self) -> dict[FileStatus, int]:
        """Files by status, without the statuses that nothing is in."""
        counts: dict[FileStatus, int] = {}
        for file in self._files.values():
            counts[file.status] = counts.get(file.status, 0) + 1
        return counts

    def processor_versions(self) -> dict[str, str]:
        """By name; where files of one batch were made by several versions, all of them: ``1,2``."""
        found: dict[str, set[str]] = {}
        for file in self._files.values():
            if file.processor is not None and file.status in ("completed", "failed"):
                found.setdefault(file.processor[0], set()).add(file.processor[1])
        return {name: ",".join(sorted(versions)) for name, versions in sorted(found.items())}

    def _file_event(self, file_id: str, record: Recorded) -> None:
        event = record.event
        match event:
            case e.FileQueued():
                self._begin(file_id, event, event.attempt)
                return
            case e.FileRejected():
                self._begin(file_id, event, attempt=0).error = event.error
                return
            case _:
                file = self._known(file_id, record)
        file.status = STATUS_AFTER.get(type(event), file.status)
        match event:
            case e.FileStarted():
                file.attempt = event.attempt
                file.processor = (event.processor, event.processor_version)
            case e.FileCompleted():
                file.error = None
                file.processor = (event.processor, event.processor_version)
                file.result = event.result_ref or self._store(bytes(event.result))
            case e.FileFailed() | e.FileAttemptFailed():
                file.attempt, file.error = event.attempt, event.error
            case e.FileCancelled():
                file.error = None
            case _:
                pass

    def _begin(self, file_id: str, event: e.FileQueued | e.FileRejected, attempt: int) -> _File:
        before = self._files.get(file_id)
        file = _File(
            file_id=file_id,
            name=event.name,
            index=event.index,
            order=before.order if before else len(self._files),
            sha256=event.sha256,
            status=STATUS_AFTER[type(event)],
            attempt=attempt,
        )
        self._files[file_id] = file
        return file

    def _known(self, file_id: str, record: Recorded) -> _File:
        file = self._files.get(file_id)
        if file is None:
            raise LogDamaged(
                f"{record.name} at {record.seq} tells of a file that was never queued: {file_id}"
            )
        return file

    def _store(self, result: bytes) -> _Spooled:
        place = _Spooled(self._spooled, len(result))
        self._spool.seek(self._spooled)
        self._spool.write(result)
        self._spooled += len(result)
        return place


# -- the document ---------------------------------------------------------------------------------


class _Document:
    """The temporary file, its length and its digest; gathers small pieces before it writes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = NamedTemporaryFile(dir=folder, prefix=_TEMPORARY, suffix=".json", delete=False)  # noqa: SIM115
        self.path = Path(self._file.name)
        self.bytes = 0
        self._digest = sha256()
        self._pieces: list[bytes] = []
        self._gathered = 0

    async def write(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= _PIECE_BYTES:
            await self._flush()

    async def finish(self) -> str:
        """Closes the file and returns its digest."""
        await self._flush()
        await asyncio.to_thread(self._file.close)
        return self._digest.hexdigest()

    def abandon(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)

    async def _flush(self) -> None:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        await asyncio.to_thread(self._write, b"".join(pieces))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)
        self.bytes += len(data)


async def build(
    log: Log,
    blobs: Blobs,
    spool: Path,
    tenant: str,
    batch_id: str,
    *,
    version: int,
    through_seq: int | None = None,
) -> Built:
    """Builds the document of a batch as of a position, or as of now.

    Raises NotFound where there is no such batch, LogDamaged where the log does not hold the batch's
    event at ``through_seq``, ResultLost where a large result is gone.
    """
    await asyncio.to_thread(spool.mkdir, parents=True, exist_ok=True)
    with SpooledTemporaryFile(max_size=_SPOOL_BYTES, dir=str(spool)) as results:
        fold = _Fold(batch_id, results)
        async for records in log.read(batch_all(tenant, batch_id), through=through_seq):
            fold.apply(records)
        if fold.name is None:
            raise NotFound("batch_not_found", "There is no such batch.")
        if through_seq is not None and fold.seq != through_seq:
            raise LogDamaged(f"{batch_id}: its event at {through_seq} is not in the log")
        return await _write(fold, blobs, spool, version)


async def _write(fold: _Fold, blobs: Blobs, spool: Path, version: int) -> Built:
    document = await asyncio.to_thread(_Document, spool)
    try:
        await document.write(b'{"metadata":' + encode(_metadata(fold, version)) + b',"archivos_procesados":[')
        for number, file in enumerate(fold.files()):
            await _write_entry(document, fold, blobs, file, first=number == 0)
        await document.write(b"]}\n")
        digest = await document.finish()
    except BaseException:
        document.abandon()
        raise
    return Built(
        path=document.path,
        bytes=document.bytes,
        sha256=digest,
        version=version,
        through_seq=fold.seq,
        counts=fold.counts(),
    )


def _metadata(fold: _Fold, version: int) -> _Metadata:
    counts = fold.counts()
    shown: dict[str, int] = {status: counts.get(status, 0) for status in FINAL_STATUSES}
    shown |= {"total": sum(counts.values())} | counts
    return _Metadata(
        lote_id=fold.batch_id,
        name=fold.name or "",
        generated_at=fold.time,
        version=version,
        through_seq=fold.seq,
        counts=shown,
        processor_versions=fold.processor_versions(),
    )


async def _write_entry(document: _Document, fold: _Fold, blobs: Blobs, file: _File, *, first: bool) -> None:
    head = encode(
        _Head(fold.batch_id, file.file_id, file.name, file.index, file.status, file.attempt, file.sha256)
    )
    await document.write((b"" if first else b",") + b"\n" + head[:-1] + b',"resultado":')
    match file.result:
        case _Spooled():
            await document.write(fold.spooled(file.result) or b"null")
        case BlobRef():
            async for piece in _checked(blobs, file.result, fold.batch_id, file.file_id):
                await document.write(piece)
        case None:
            await document.write(b"null")
    await document.write(b',"error":' + encode(_error(file)) + b"}")


def _error(file: _File) -> _Error | None:
    if file.error is None:
        return None
    return _Error(file.error.code, file.error.message, file.attempt)


async def _checked(blobs: Blobs, ref: BlobRef, batch_id: str, file_id: str) -> AsyncIterator[bytes]:
    """A large result in pieces; ResultLost, before the document is done, where it is not as it was."""
    digest = sha256()
    try:
        async for piece in blobs.stream(ref):
            digest.update(piece)
            yield piece
    except KeyError as error:
        raise ResultLost(batch_id, file_id, ref.key) from error
    if digest.hexdigest() != ref.sha256:
        raise ResultLost(batch_id, file_id, ref.key)


# -- the cache ------------------------------------------------------------------------------------

_Flight: TypeAlias = tuple[str, str, int]


class ResultsCache:
    """The stored result JSON of every version of every batch; what is gone is built again.

    ``spool`` is a folder for temporary files. One instance per process: it is what makes a hundred
    requests for the same missing object one build.
    """

    def __init__(self, log: Log, blobs: Blobs, spool: Path) -> None:
        self._log = log
        self._blobs = blobs
        self._spool = spool
        self._flights: dict[_Flight, asyncio.Task[None]] = {}
        self._room = asyncio.Semaphore(_BUILDS_MAX)

    async def open(
        self, tenant: str, batch_id: str, version: int, through_seq: int, expected: BlobRef
    ) -> tuple[BlobRef, bool]:
        """Where the result JSON is, and whether it was there already (``Tanda-Cache: hit``).

        ``expected`` and ``through_seq`` are those of the ``BatchCompleted`` of this version. Raises
        LogDamaged where a rebuild gives other bytes, ResultLost where a large result is gone.
        """
        flight = (tenant, batch_id, version)
        if flight not in self._flights and await self._stored(expected):
            return expected, True
        task = self._flights.get(flight)
        if task is None:
            task = asyncio.create_task(self._restore(tenant, batch_id, version, through_seq, expected))
            self._flights[flight] = task
            task.add_done_callback(self._landed(flight))
        # A caller that goes away does not take the build from the others.
        await asyncio.shield(task)
        return expected, False

    @asynccontextmanager
    async def partial(self, tenant: str, batch_id: str) -> AsyncGenerator[Built, None]:
        """The document as of now, with version 0 and each file's present status; gone on leaving."""
        async with self._room:
            document = await build(self._log, self._blobs, self._spool, tenant, batch_id, version=0)
        with _discarding(document) as built:
            yield built

    async def store(self, tenant: str, batch_id: str, version: int, through_seq: int) -> Built:
        """Builds a version and puts it under its key, not yet durable: the barrier is the caller's.

        The returned file itself is discarded already.
        """
        async with self._room:
            with _discarding(await self._build(tenant, batch_id, version, through_seq)) as built:
                await self._put(built, results_key(tenant, batch_id, version))
                return built

    async def _restore(
        self, tenant: str, batch_id: str, version: int, through_seq: int, expected: BlobRef
    ) -> None:
        async with self._room:
            if await self._stored(expected):
                return  # by a flight that landed while this one's caller was asking
            with _discarding(await self._build(tenant, batch_id, version, through_seq)) as built:
                if (built.sha256, built.bytes) != (expected.sha256, expected.bytes):
                    _log.error(
                        "Rebuilt results differ from those that were recorded; not storing them.",
                        batch=batch_id, version=version, recorded=expected.sha256, rebuilt=built.sha256,
                    )  # fmt: skip
                    raise LogDamaged(f"{batch_id}: the results of version {version} cannot be repeated")
                await self._put(built, expected.key)

    async def _stored(self, expected: BlobRef) -> bool:
        stat = await self._blobs.stat(expected.key)
        return stat is not None and stat.bytes == expected.bytes

    async def _build(self, tenant: str, batch_id: str, version: int, through_seq: int) -> Built:
        return await build(
            self._log,
            self._blobs,
            self._spool,
            tenant,
            batch_id,
            version=version,
            through_seq=through_seq,
        )

    async def _put(self, built: Built, key: str) -> None:
        await self._blobs.put(key, built.path, sha256=built.sha256, content_type=CONTENT_TYPE)

    def _landed(self, flight: _Flight) -> Callable[[asyncio.Task[None]], Any]:
        def landed(task: asyncio.Task[None]) -> None:
            self._flights.pop(flight, None)
            if not task.cancelled():
                task.exception()  # seen here, so that a build whose callers all left says nothing

        return landed


@contextmanager
def _discarding(built: Built) -> Generator[Built, None, None]:
    """A built document for the length of a block."""
    try:
        yield built
    finally:
        built.discard()


def sweep(spool: Path, older_than: float) -> None:
    """Removes temporary documents that a killed process left, last written before a time (epoch s)."""
    for path in spool.glob(f"{_TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < older_than:
                path.unlink()
