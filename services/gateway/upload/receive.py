"""Reads a multipart upload: fields into memory, files into the store, all within their limits."""

import contextlib
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import IO

import msgspec

from services.gateway.problems import InvalidFields
from services.gateway.upload.body import too_large
from services.gateway.upload.multipart import BadMultipart, MultipartReader, PartBegin, PartEnd, Token
from services.gateway.upload.packing import Received, Spool, Store, remove
from tanda.domain.errors import Refusal
from tanda.domain.filetypes import HEAD_BYTES, FileType, check, safe_name
from tanda.settings import Settings

#: The fields of a batch beside its files; anything else is an error, never ignored.
FIELDS = frozenset(
    {
        "name",
        "processor",
        "options",
        "priority",
        "start_at",
        "expires_at",
        "metadata",
        "tags",
        "owner",
        "limit",
    }
)
FILES = "files"
FIELD_BYTES_MAX = 64 * 1024
FIELDS_BYTES_MAX = 256 * 1024
#: Written to the spool in steps of this size, each in a thread.
SPOOL_STEP_BYTES = 1024**2
#: Processors without a list of types: they take whatever comes.
UNTYPED = frozenset({"noop", "http", "llm"})


class Form(msgspec.Struct, kw_only=True):
    """What an upload brought."""

    fields: dict[str, list[str]]
    files: list[Received]

    def field(self, name: str) -> str | None:
        return self.fields[name][0] if name in self.fields else None


class Incoming:
    """One file on its way: in memory as long as it may be packed, on disk beyond."""

    def __init__(self, spool: Spool, memory_max: int, bytes_max: int) -> None:
        self._spool = spool
        self._memory_max = memory_max
        self._bytes_max = bytes_max
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._digest = sha256()
        self._path: Path | None = None
        self._file: IO[bytes] | None = None
        self.bytes = 0
        self.head = b""

    async def write(self, piece: bytes) -> None:
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
        self.bytes += len(piece)
        if self.bytes > self._bytes_max:
            raise too_large("file_too_large", self._bytes_max)
        self._pending.append(piece)
        self._pending_bytes += len(piece)
        if self._pending_bytes > (SPOOL_STEP_BYTES if self._file else self._memory_max):
            await self._spill()

    async def close(self) -> tuple[bytes | Path, str]:
        """The whole content, in memory or on disk, and its digest."""
        if self._file is None:
            data = b"".join(self._pending)
            self._digest.update(data)
            return data, self._digest.hexdigest()
        await self._spill()
        self._file.close()
        assert self._path is not None, "a spooled file has its path"
        return self._path, self._digest.hexdigest()

    def abandon(self) -> None:
        """The upload failed: nothing of it stays on disk."""
        if self._file is not None:
            self._file.close()
        if self._path is not None:
            remove(self._path)

    async def _spill(self) -> None:
        if self._file is None:
            self._path = self._spool.new_path()
            self._file = self._path.open("wb")
        pending, self._pending, self._pending_bytes = self._pending, [], 0
        await self._spool.run(_write_hashed, self._file, self._digest, pending)


def _write_hashed(file: IO[bytes], digest: "sha256", pending: list[bytes]) -> None:  # pyright: ignore
    for piece in pending:
        file.write(piece)
        digest.update(piece)


class FormReader:
    """Takes the tokens of a multipart body one by one."""

    def __init__(self, settings: Settings, spool: Spool, store: Store) -> None:
        self._settings = settings
        self._spool = spool
        self._store = store
        self._part: PartBegin | None = None
        self._value = bytearray()
        self._fields_bytes = 0
        self._incoming: Incoming | None = None
        self.form = Form(fields={}, files=[])

    async def read(self, body: AsyncIterator[bytes], boundary: str) -> Form:
        """The whole form; whatever goes wrong, nothing of it stays in the spool."""
        try:
            reader = MultipartReader(boundary)
            async with contextlib.aclosing(body):  # pyright: ignore[reportArgumentType]
                async for piece in body:
                    for token in reader.feed(piece):
                        await self._take(token)
            reader.finish()
        except BadMultipart as error:
            raise Refusal("bad_multipart", str(error), status=400) from error
        finally:
            if self._incoming is not None:
                self._incoming.abandon()
        return self.form

    async def _take(self, token: Token) -> None:
        match token:
            case bytes():
                await self._data(token)
            case PartBegin():
                self._begin(token)
            case PartEnd():
                await self._end()

    def _begin(self, part: PartBegin) -> None:
        self._part = part
        self._value.clear()
        if part.file_name is None:
            self._begin_field(part.name)
            return
        if part.name != FILES:
            raise InvalidFields((part.name[:100], f"files are expected under the name {FILES}"))
        if len(self.form.files) >= self._settings.batch_files_max:
            detail = f"A batch takes at most {self._settings.batch_files_max:,} files."
            raise Refusal("too_many_files", detail, status=413)
        self._incoming = Incoming(
            self._spool, self._settings.pack_file_bytes_max, self._settings.file_bytes_max
        )

    def _begin_field(self, name: str) -> None:
        if name == FILES:
            raise InvalidFields((name, "a file needs a file name"))
        if name not in FIELDS:
            raise InvalidFields((name[:100], "there is no such field"))
        if name in self.form.fields and name != "tags":
            raise InvalidFields((name, "given more than once"))

    async def _data(self, data: bytes) -> None:
        if self._incoming is not None:
            await self._incoming.write(data)
            return
        self._value += data
        self._fields_bytes += len(data)
        if len(self._value) > FIELD_BYTES_MAX or self._fields_bytes > FIELDS_BYTES_MAX:
            raise too_large("field_too_large", FIELD_BYTES_MAX)

    async def _end(self) -> None:
        part = self._part
        assert part is not None, "a part ends after it began"
        if self._incoming is None:
            self._end_field(part.name)
        elif not part.file_name and self._incoming.bytes == 0:
            self._incoming = None  # a form's file input that nobody used
        else:
            incoming = self._incoming
            await self._end_file(part, incoming)
            self._incoming = None

    def _end_field(self, name: str) -> None:
        try:
            value = self._value.decode()
        except UnicodeDecodeError:
            raise InvalidFields((name, "is not UTF-8")) from None
        self.form.fields.setdefault(name, []).append(value)

    async def _end_file(self, part: PartBegin, incoming: Incoming) -> None:
        content, digest = await incoming.close()
        name = part.file_name or ""
        file = Received(
            index=len(self.form.files),
            name=safe_name(name),
            declared=part.content_type,
            bytes=incoming.bytes,
            sha256=digest,
            verdict=check(name, part.content_type, incoming.head, incoming.bytes),
        )
        self.form.files.append(file)
        await self._place(file, content)

    async def _place(self, file: Received, content: bytes | Path) -> None:
        processor = self.form.field("processor")
        if isinstance(file.verdict, FileType) or processor in UNTYPED:
            await self._store.add(file, content)
        elif processor is None:
            await self._store.hold(file, content)
        elif isinstance(content, Path):
            remove(content)
