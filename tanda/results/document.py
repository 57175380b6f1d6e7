"""Building the document: one pass over the batch's events, then the whole of it in upload order.

A small one stays in memory: a file of its own would take five turns of a thread, each of which waits for its
turn on a busy machine.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile, SpooledTemporaryFile
from typing import IO, BinaryIO

import msgspec

from tanda.contracts.codec import encode
from tanda.contracts.events import FINAL_STATUSES, FileStatus
from tanda.contracts.results import BlobRef
from tanda.contracts.subjects import batch_all
from tanda.domain.errors import LogDamaged, NotFound, WorldFailure
from tanda.ports import Blobs, Log
from tanda.results import entry
from tanda.results.fold import SEPARATOR, DocumentFile, DocumentFold

#: Entries of one build that stay in memory; beyond it they are on disk.
_SPOOL_BYTES = 8 * 1024**2
#: A document that is not larger is in no file.
_MEMORY_BYTES_MAX = 4 * 1024**2
#: What is beyond is hashed and written in pieces of about this size.
_PIECE_BYTES = 1024**2
_TEMPORARY = "results-"


class ResultLost(WorldFailure):
    """A file's result is neither in the log nor in the object store; no document can tell of it."""

    def __init__(self, batch_id: str, file_id: str, key: str) -> None:
        super().__init__(f"{batch_id}: the result of {file_id} is gone or damaged: {key}")
        self.batch_id = batch_id
        self.file_id = file_id
        self.key = key


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A result JSON; whoever asked for it discards it."""

    #: The bytes, or where they are on this machine's disk.
    content: bytes | Path
    tenant: str
    batch_id: str
    bytes: int
    sha256: str
    version: int
    through_seq: int
    #: Files by status; the statuses that nothing is in are left out.
    counts: dict[FileStatus, int]

    @property
    def ref(self) -> BlobRef:
        """Where it is once it is stored."""
        key = results_key(self.tenant, self.batch_id, self.version, self.sha256)
        return BlobRef(key=key, bytes=self.bytes, sha256=self.sha256)

    def open(self) -> BinaryIO:
        """To read it; what is open outlives ``discard``."""
        return BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

    def discard(self) -> None:
        """Removes its file, if it has one; one that is gone already is no error."""
        if isinstance(self.content, Path):
            self.content.unlink(missing_ok=True)


def results_key(tenant: str, batch_id: str, version: int, sha256: str) -> str:
    """Where a version of a batch's result JSON is in the object store; readers take it from the event.

    With its digest, so that a writer which lost the race for a version (stopped for a while, say)
    never overwrites what ``BatchCompleted`` names.
    """
    return f"t/{tenant}/{batch_id}/results/v{version}/{sha256[:16]}/{batch_id}_resultados.json"


class _Metadata(msgspec.Struct, frozen=True):
    lote_id: str
    name: str
    generated_at: str
    version: int
    through_seq: int
    counts: dict[str, int]
    processor_versions: dict[str, str]


class _Document:
    """The document as it grows, its length and its digest; a large one is in a temporary file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] | None = None
        self.bytes = 0
        self._digest = sha256()
        self._pieces: list[bytes] = []
        self._gathered = 0

    async def write(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._gathered += len(piece)
        if self._gathered >= (_MEMORY_BYTES_MAX if self._file is None else _PIECE_BYTES):
            await asyncio.to_thread(self._write, self._taken())

    async def finish(self) -> tuple[bytes | Path, str]:
        """Its content, whole, and its digest."""
        last = self._taken()
        if self._file is not None:
            return await asyncio.to_thread(self._close, self._file, last), self._digest.hexdigest()
        self._count(last)
        return last, self._digest.hexdigest()

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            Path(self._file.name).unlink(missing_ok=True)

    def _taken(self) -> bytes:
        pieces, self._pieces, self._gathered = self._pieces, [], 0
        return b"".join(pieces)

    def _count(self, data: bytes) -> None:
        self._digest.update(data)
        self.bytes += len(data)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = NamedTemporaryFile(dir=self._folder, prefix=_TEMPORARY, suffix=".json", delete=False)  # noqa: SIM115
        self._count(data)
        self._file.write(data)

    def _close(self, file: IO[bytes], last: bytes) -> Path:
        self._count(last)
        file.write(last)
        file.close()
        return Path(file.name)


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
        fold = DocumentFold(batch_id, results)
        async for records in log.read(batch_all(tenant, batch_id), through=through_seq):
            fold.apply(records)
        if fold.name is None:
            raise NotFound("batch_not_found", "There is no such batch.")
        if through_seq is not None and fold.seq != through_seq:
            raise LogDamaged(f"{batch_id}: its event at {through_seq} is not in the log")
        return await written(fold, blobs, spool, tenant, version)


async def written(fold: DocumentFold, blobs: Blobs, spool: Path, tenant: str, version: int) -> Built:
    """The document of a fold that has seen all events of a batch, as of its last one."""
    document = _Document(spool)
    try:
        await document.write(b'{"metadata":' + encode(_metadata(fold, version)) + b',"archivos_procesados":[')
        left_out = len(b",")
        for found in fold.pieces():
            if isinstance(found, bytes):
                await document.write(found[left_out:])
            else:
                async for piece in _entry(fold.batch_id, found, blobs):
                    await document.write(piece[left_out:])
                    left_out = 0
            left_out = 0
        await document.write(b"]}\n")
        content, digest = await document.finish()
    except BaseException:
        document.abandon()
        raise
    return Built(
        content=content,
        tenant=tenant,
        batch_id=fold.batch_id,
        bytes=document.bytes,
        sha256=digest,
        version=version,
        through_seq=fold.seq,
        counts=fold.counts(),
    )


def _metadata(fold: DocumentFold, version: int) -> _Metadata:
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


async def _entry(batch_id: str, file: DocumentFile, blobs: Blobs) -> AsyncIterator[bytes]:
    """The entry of a file whose result, if it has one, is an object of its own."""
    yield SEPARATOR + entry.head(
        batch_id, file.file_id, file.name, file.index, file.status, file.attempt, file.sha256
    )
    if file.result_ref is None:
        yield b"null"
    else:
        async for piece in _checked(blobs, file.result_ref, batch_id, file.file_id):
            yield piece
    yield entry.tail(file.error, file.attempt)


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


def sweep(spool: Path, older_than: float) -> None:
    """Removes temporary documents that a killed process left, last written before a time (epoch s)."""
    for path in spool.glob(f"{_TEMPORARY}*"):
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < older_than:
                path.unlink()
