"""Results that are taken again: the same bytes, worked on in the same way, are not paid for twice.

What such a result needs is kept in the object store, under a digest of all that decides it and apart for
each tenant. It is a cache: whatever is wrong with it or with the store, the file is worked on as if nothing
had been kept. A result that is taken goes the way of a new one, so that its batch has objects of its own.
"""

import asyncio
from hashlib import sha256

import msgspec
import structlog

from tanda.contracts import commands as c
from tanda.contracts.codec import encode
from tanda.contracts.events import NO_RESULT
from tanda.contracts.results import Artifact, BlobRef, Result, StoredArtifact
from tanda.contracts.work import WorkItem
from tanda.domain.errors import Unavailable
from tanda.ports import Blobs

_log = structlog.get_logger("tanda.runner")

#: Beside what events name, and all below one prefix: an operator may empty it, or let it expire, at any time.
PREFIX = "reuse/"
#: What looking or keeping may hold a file up; a store that answers takes milliseconds.
REUSE_WAIT_S = 2.0
#: Of a result with its artifacts, which are in memory while they are taken.
REUSED_BYTES_MAX = 16 * 1024**2
_OPTION = "reuse"
#: Of the store, or with what it gives.
_TROUBLE = (Unavailable, TimeoutError, KeyError, ValueError)


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result as the file that it was made for has it; its objects are that file's."""

    result_sha256: str
    result: msgspec.Raw = NO_RESULT
    result_ref: BlobRef | None = None
    artifacts: list[StoredArtifact] = []
    warnings: list[str] = []


def reuse_key(item: WorkItem, version: str, question: bytes) -> str:
    """The place of an item's result; ``question`` is what decides it besides bytes, options and version."""
    options = {name: value for name, value in item.options.items() if name != _OPTION}
    decides = [item.sha256, item.content_type, item.processor, version, options, question]
    return f"{PREFIX}{item.tenant}/{sha256(encode(decides)).hexdigest()}"


def may_take(item: WorkItem) -> bool:
    """A retry is worked on anew, and so is what says ``{"reuse": false}``."""
    return item.attempt == 1 and item.options.get(_OPTION, True) is not False


class Reuse:
    """Finds and keeps results; neither ever fails."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def find(self, key: str) -> Result | None:
        """The whole result, every byte of it checked; None where there is none, or any doubt."""
        try:
            async with asyncio.timeout(REUSE_WAIT_S):
                return await self._read(key)
        except _TROUBLE as error:
            _log.warning("a stored result could not be taken", key=key, error=str(error))
        return None

    async def keep(self, key: str, done: c.CompleteFile) -> None:
        """Keeps a result that is durable and in the log, in place of one from before.

        Without a barrier: one that is lost costs its work again.
        """
        bytes_all = done.result_bytes + sum(one.blob.bytes for one in done.artifacts)
        if bytes_all > REUSED_BYTES_MAX:
            return
        body = encode(
            Kept(
                result_sha256=done.result_sha256, result=done.result, result_ref=done.result_ref,
                artifacts=done.artifacts, warnings=done.warnings,
            )
        )  # fmt: skip
        data = sha256(body).hexdigest().encode() + b"\n" + body
        digest = sha256(data).hexdigest()
        try:
            async with asyncio.timeout(REUSE_WAIT_S):
                await self._blobs.put(key, data, sha256=digest, content_type="application/json")
        except _TROUBLE as error:
            _log.warning("a result could not be kept for later", key=key, error=str(error))

    async def _read(self, key: str) -> Result | None:
        stat = await self._blobs.stat(key)
        if stat is None or stat.bytes > REUSED_BYTES_MAX:
            return None
        whole = BlobRef(key=key, bytes=stat.bytes, sha256="")
        kept = _opened(b"".join([piece async for piece in self._blobs.stream(whole)]))
        body = bytes(kept.result) if kept.result_ref is None else await self._blobs.read(kept.result_ref)
        if sha256(body).hexdigest() != kept.result_sha256:
            raise ValueError("the result is not the one of its digest")
        artifacts = await asyncio.gather(*(self._artifact(one) for one in kept.artifacts))
        return Result(data=msgspec.Raw(body), artifacts=artifacts, warnings=kept.warnings)

    async def _artifact(self, one: StoredArtifact) -> Artifact:
        data = await self._blobs.read(one.blob)
        return Artifact(name=one.name, content_type=one.content_type, data=data)


def _opened(data: bytes) -> Kept:
    """ValueError where the bytes are not those that were kept."""
    digest, _, body = data.partition(b"\n")
    if sha256(body).hexdigest().encode() != digest:
        raise ValueError("it is not what was kept")
    return msgspec.json.decode(body, type=Kept)
