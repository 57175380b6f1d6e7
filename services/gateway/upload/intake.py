"""The door for bytes: how many uploads at once, where their files go, and what becomes of failed ones."""

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256

import msgspec
from starlette.requests import Request

from services.gateway.problems import Busy
from services.gateway.upload.body import pieces
from services.gateway.upload.multipart import BadMultipart, boundary_of
from services.gateway.upload.packing import PUTS_MAX, Received, Store
from services.gateway.upload.receive import UNTYPED, Form, FormReader, Incoming
from tanda.domain.errors import Refusal
from tanda.domain.filetypes import FileType, check, safe_name
from tanda.ports import Blobs, BlobUpload
from tanda.settings import Settings

_SHA256_BYTES = 32
#: A failed upload's answer waits this long for its objects to be taken back; that goes on behind it.
CLEANUP_S = 1.0


class Intake:
    """One per process; every body with files goes through it."""

    def __init__(self, settings: Settings, blobs: Blobs, grace_s: float) -> None:
        self._grace_s = grace_s
        self._settings = settings
        self._blobs = blobs
        self._puts = asyncio.Semaphore(PUTS_MAX)
        self._active = 0
        self._cleanups: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """A place among the concurrent uploads; Busy where all are taken."""
        if self._active >= self._settings.uploads_concurrent_max:
            raise Busy("busy", "As many uploads as this process takes are running; try again shortly.")
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    @asynccontextmanager
    async def store(self, prefix: str, *, discard_packs: bool) -> AsyncGenerator[Store]:
        """The objects of one upload, which are taken back where it fails.

        Packs only where nobody else can have written under the same prefix.
        """
        pack_bytes = max(self._settings.pack_file_bytes_max, self._settings.pack_bytes // self._active)
        store = Store(self._blobs, prefix, self._puts, pack_bytes)
        try:
            yield store
        except BaseException:
            cleanup = asyncio.create_task(store.abandon(packs=discard_packs))
            self._cleanups.add(cleanup)
            cleanup.add_done_callback(self._cleanups.discard)
            with suppress(asyncio.CancelledError):
                await asyncio.wait([cleanup], timeout=CLEANUP_S)
            raise

    async def form(self, request: Request, store: Store, processor: str | None = None) -> Form:
        """A whole multipart body, its files stored and durable.

        The batch's ``processor`` is known beforehand where files are added to one that is open.
        """
        try:
            boundary = boundary_of(request.headers.get("content-type", ""))
        except BadMultipart as error:
            raise Refusal("bad_multipart", str(error), status=400) from error
        limit = self._settings.upload_bytes_max
        body = pieces(request, self._settings, limit, "upload_too_large", self._grace_s)
        form = await FormReader(self._settings, store).read(body, boundary)
        store.release_held(store=(processor or form.field("processor")) in UNTYPED)
        return form

    async def file(
        self, request: Request, store: Store, name: str, index: int, processor: str, *, known: str | None
    ) -> Received:
        """A raw body as one file, checked against its Content-Digest, stored and durable.

        Where a file with this name is ``known``, by its digest, the bytes are only compared.
        """
        promised = content_digest(request.headers.get("content-digest"))
        large_key = ""

        def wanted(head: bytes) -> bool:
            verdict = check(name, request.headers.get("content-type"), head, len(head))
            return known is None and (isinstance(verdict, FileType) or processor in UNTYPED)

        def begin(head: bytes) -> BlobUpload | None:
            nonlocal large_key
            if not wanted(head):
                return None
            large_key, upload = store.begin()
            return upload

        limit = self._settings.file_bytes_max
        incoming = Incoming(self._settings.pack_file_bytes_max, limit, begin)
        async for piece in pieces(request, self._settings, limit, "file_too_large", self._grace_s):
            if incoming.write(piece):
                await incoming.pass_on()
        content, digest = await incoming.close()
        if promised is not None and promised != digest:
            raise Refusal("digest_mismatch", "The bytes are not those of the Content-Digest.", status=400)
        file = _received(request, incoming, name, index, digest)
        if large_key:
            await store.add_large(file, large_key)
        elif wanted(incoming.head):
            await store.add(file, content)
        await store.finish()
        return file


def _received(request: Request, incoming: Incoming, name: str, index: int, digest: str) -> Received:
    declared = request.headers.get("content-type")
    return Received(
        index=index,
        name=safe_name(name),
        declared=declared,
        bytes=incoming.bytes,
        sha256=digest,
        verdict=check(name, declared, incoming.head, incoming.bytes),
    )


def content_digest(header: str | None) -> str | None:
    """The SHA-256 of an RFC 9530 ``Content-Digest`` as hex; None where none is given."""
    for item in (header or "").split(","):
        algorithm, _, value = item.strip().partition("=")
        if algorithm.lower() != "sha-256":
            continue
        with suppress(binascii.Error):
            raw = base64.b64decode(value.strip(":"), validate=True)
            if value[:1] == value[-1:] == ":" and len(raw) == _SHA256_BYTES:
                return raw.hex()
        raise Refusal("bad_digest", "Content-Digest is to be sha-256=:BASE64:.", status=400)
    return None


def form_digest(form: Form) -> str:
    """What makes two uploads the same: their fields, and their files' names and bytes in order."""
    files = [(file.name, file.declared, file.sha256) for file in form.files]
    return sha256(msgspec.json.encode([sorted(form.fields.items()), files])).hexdigest()
