"""Reads a multipart upload: fields into memory, files into the store, all within their limits."""

import contextlib
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Literal

import msgspec

from services.gateway.problems import InvalidFields
from services.gateway.upload.body import too_large
from services.gateway.upload.multipart import BadMultipart, MultipartReader, Part, PartBegin
from services.gateway.upload.packing import Received, Store
from tanda.domain.errors import Refusal
from tanda.domain.filetypes import HEAD_BYTES, FileType, check, safe_name
from tanda.ports import BlobUpload
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
#: A tag may be a field each, and one without a byte costs memory too.
FIELDS_MAX = 1_000
#: Processors without a list of types: they take whatever comes.
UNTYPED = frozenset({"noop", "http", "llm"})


class Form(msgspec.Struct, kw_only=True):
    """What an upload brought."""

    fields: dict[str, list[str]]
    files: list[Received]

    def field(self, name: str) -> str | None:
        return self.fields[name][0] if name in self.fields else None


class Incoming:
    """One file on its way: in memory as long as it may be packed, beyond it into an object of its own."""

    def __init__(self, memory_max: int, bytes_max: int, begin: Callable[[bytes], BlobUpload | None]) -> None:
        """``begin`` is asked, with the file's head, for an object; None: the bytes are only looked at."""
        self._memory_max = memory_max
        self._bytes_max = bytes_max
        self._begin = begin
        self._pieces: list[bytes] = []
        self.is_large = False
        self.bytes = 0

    def write(self, piece: bytes) -> bool:
        """Takes a piece. True: it is more than may wait here, so that ``pass_on`` is due."""
        self.bytes += len(piece)
        if self.bytes > self._bytes_max:
            raise too_large("file_too_large", self._bytes_max)
        self._pieces.append(piece)
        return self.bytes > self._memory_max and self.bytes >= HEAD_BYTES

    async def pass_on(self) -> None:
        """What waits here goes to the store: from now on it is a large file."""
        data = self._gathered()
        if not self.is_large:
            self.is_large, self.head = True, data[:HEAD_BYTES]
            self._upload, self._digest = self._begin(self.head), sha256()
        if self._upload is not None:
            await self._upload.write(data)
        else:
            self._digest.update(data)

    async def close(self) -> tuple[bytes, str]:
        """The content of a small file, and the digest of any."""
        if self.bytes <= self._memory_max:
            data = self._gathered()
            self.head = data[:HEAD_BYTES]
            return data, sha256(data).hexdigest()
        if self._pieces:
            await self.pass_on()
        return b"", self._upload.sha256 if self._upload else self._digest.hexdigest()

    def _gathered(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class FormReader:
    """Takes the tokens of a multipart body one by one."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._small_max = min(settings.pack_file_bytes_max, settings.file_bytes_max)
        self._part: PartBegin | None = None
        self._value = bytearray()
        self._fields = 0
        self._fields_bytes = 0
        self._incoming: Incoming | None = None
        #: Where a large file goes, once it has begun.
        self._large_key: str | None = None
        self.form = Form(fields={}, files=[])

    async def read(self, body: AsyncIterator[bytes], boundary: str) -> Form:
        """The whole form; what it put is in the store, which takes it back where this fails."""
        try:
            reader = MultipartReader(boundary)
            async with contextlib.aclosing(body):  # pyright: ignore[reportArgumentType]
                async for piece in body:
                    for token in reader.feed(piece):
                        if isinstance(token, Part):
                            await self._whole(token)
                        elif isinstance(token, bytes):
                            await self._data(token)
                        elif isinstance(token, PartBegin):
                            self._begin(token)
                        else:
                            await self._end()
            reader.finish()
        except BadMultipart as error:
            raise Refusal("bad_multipart", str(error), status=400) from error
        return self.form

    async def _whole(self, part: Part) -> None:
        """The short way of most files; the same as their begin, bytes and end one after the other."""
        begin, content = part.begin, part.content
        if begin.file_name and len(content) <= self._small_max:
            self._check_file(begin)
            await self._add_small(begin, content, sha256(content).hexdigest())
            return
        self._begin(begin)
        await self._data(bytes(content))
        await self._end()

    def _begin(self, part: PartBegin) -> None:
        self._part = part
        self._value.clear()
        if part.file_name is None:
            self._begin_field(part.name)
            return
        self._check_file(part)
        settings = self._settings
        self._incoming = Incoming(settings.pack_file_bytes_max, settings.file_bytes_max, self._begin_large)

    def _check_file(self, part: PartBegin) -> None:
        if part.name != FILES:
            raise InvalidFields((part.name[:100], f"files are expected under the name {FILES}"))
        if len(self.form.files) >= self._settings.batch_files_max:
            detail = f"A batch takes at most {self._settings.batch_files_max:,} files."
            raise Refusal("too_many_files", detail, status=413)

    def _begin_field(self, name: str) -> None:
        if name == FILES:
            raise InvalidFields((name, "a file needs a file name"))
        if name not in FIELDS:
            raise InvalidFields((name[:100], "there is no such field"))
        if name in self.form.fields and name != "tags":
            raise InvalidFields((name, "given more than once"))
        self._fields += 1
        if self._fields > FIELDS_MAX:
            raise InvalidFields((name, f"the form has more than {FIELDS_MAX:,} fields"))

    async def _data(self, data: bytes) -> None:
        """Bytes of a file or of a field."""
        if self._incoming is not None:
            if self._incoming.write(data):
                await self._incoming.pass_on()
            return
        self._value += data
        self._fields_bytes += len(data)
        if len(self._value) > FIELD_BYTES_MAX or self._fields_bytes > FIELDS_BYTES_MAX:
            raise too_large("field_too_large", FIELD_BYTES_MAX)

    async def _end(self) -> None:
        part, incoming = self._part, self._incoming
        assert part is not None, "a part ends after it began"
        if incoming is None:
            self._end_field(part.name)
        elif part.file_name or incoming.bytes:  # else a form's file input that nobody used
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
        if not incoming.is_large:
            await self._add_small(part, content, digest)
            return
        file = self._received(part, incoming.head, incoming.bytes, digest)
        if self._fate(file.verdict) != "dropped":
            assert self._large_key is not None, "a large file that is not dropped has its object"
            await self._store.add_large(file, self._large_key)

    async def _add_small(self, part: PartBegin, content: bytes | memoryview, digest: str) -> None:
        file = self._received(part, bytes(content[:HEAD_BYTES]), len(content), digest)
        fate = self._fate(file.verdict)
        if fate != "dropped":
            await self._store.add(file, content, held=fate == "held")

    def _received(self, part: PartBegin, head: bytes, length: int, digest: str) -> Received:
        name = part.file_name or ""
        file = Received(
            index=len(self.form.files),
            name=safe_name(name),
            declared=part.content_type,
            bytes=length,
            sha256=digest,
            verdict=check(name, part.content_type, head, length),
        )
        self.form.files.append(file)
        return file

    def _begin_large(self, head: bytes) -> BlobUpload | None:
        """The object for the file that is coming; None where it is refused already."""
        part = self._part
        assert part is not None, "a file belongs to a part"
        fate = self._fate(check(part.file_name or "", part.content_type, head, len(head)))
        if fate == "dropped":
            return None
        self._large_key, upload = self._store.begin(held=fate == "held")
        return upload

    def _fate(self, verdict: object) -> Literal["kept", "held", "dropped"]:
        """What becomes of a file's bytes, as far as the fields before it tell."""
        processor = self.form.field("processor")
        if isinstance(verdict, FileType) or processor in UNTYPED:
            return "kept"
        return "held" if processor is None else "dropped"
