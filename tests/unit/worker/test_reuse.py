"""Results that are kept and taken again, over the store in memory: what counts as the same, and any doubt."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from services.worker import reuse
from services.worker.reuse import PREFIX, REUSED_BYTES_MAX, Reuse, may_take, reuse_key
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import commands as c
from tanda.contracts.events import NO_RESULT
from tanda.contracts.results import BlobRef, StoredArtifact
from tanda.contracts.work import WorkItem
from tanda.domain.errors import Unavailable
from tanda.ports import BlobStat
from tests.batch_story import digest, put

BODY = b'{"total":1.10}'
ITEM = WorkItem(
    tenant="acme", batch_id="bat_1", file_id="fil_1", seq=1, attempt=1, name="f.pdf",
    content_type="application/pdf", bytes=4, sha256=digest(b"hola"), processor="pdf",
    source=BlobRef(key="t/x", bytes=4, sha256=digest(b"hola")), options={"a": 1, "b": [2]},
)  # fmt: skip


def key(item: WorkItem = ITEM, version: str = "1", question: bytes = b"") -> str:
    return reuse_key(item, version, question)


def changed(**changes: Any) -> WorkItem:
    return msgspec.structs.replace(ITEM, **changes)


async def done(blobs: MemoryBlobs, body: bytes = BODY, *, inline: bool = True) -> c.CompleteFile:
    """A result with a picture beside it, both as they are stored for a file."""
    picture = await put(blobs, "t/acme/bat_1/out/picture", b"picture")
    return c.CompleteFile(
        processor="pdf", processor_version="1", duration_ms=9, result_sha256=digest(body),
        result_bytes=len(body), result=msgspec.Raw(body) if inline else NO_RESULT,
        result_ref=None if inline else await put(blobs, "t/acme/bat_1/out/result", body),
        artifacts=[StoredArtifact(name="page-1.jpg", content_type="image/jpeg", blob=picture)],
        warnings=["no_text_layer"],
    )  # fmt: skip


@pytest.mark.parametrize("inline", [True, False])
async def test_what_is_kept_is_found_to_the_last_byte(inline: bool) -> None:
    """The result as it was written, in the event or as an object, with its pictures and its warnings."""
    blobs = MemoryBlobs()
    await Reuse(blobs).keep(key(), await done(blobs, inline=inline))
    found = await Reuse(blobs).find(key())
    assert found is not None
    assert msgspec.json.encode(found.data) == BODY
    assert [(one.name, one.content_type, one.data) for one in found.artifacts] == [
        ("page-1.jpg", "image/jpeg", b"picture")
    ]
    assert (found.warnings, found.usage) == (["no_text_layer"], None)


def test_the_same_has_the_same_place() -> None:
    """Whose batch, which name and in what order the options came decide nothing, nor does asking for new."""
    same = changed(batch_id="bat_2", file_id="fil_9", name="copy of f.pdf", options={"b": [2], "a": 1})
    assert key(same) == key() == key(changed(options={"a": 1, "b": [2], "reuse": False}))
    assert key().startswith(f"{PREFIX}acme/")


@pytest.mark.parametrize(
    "other",
    [
        key(changed(tenant="other")),
        key(changed(sha256=digest(b"adios"))),
        key(changed(content_type="text/plain")),
        key(changed(processor="image")),
        key(changed(options={"a": 1})),
        key(changed(options={"a": "1", "b": [2]})),
        key(version="2"),
        key(question=b"https://elsewhere.example"),
    ],
)
async def test_what_differs_in_anything_is_not_found(other: str) -> None:
    """Another tenant above all: nobody learns from the time it takes what others have."""
    blobs = MemoryBlobs()
    await Reuse(blobs).keep(key(), await done(blobs))
    assert other != key() and await Reuse(blobs).find(other) is None


def test_a_retry_and_who_asks_for_it_get_new_work() -> None:
    """Only a first attempt takes what there is."""
    assert may_take(ITEM) and may_take(changed(options={"reuse": True}))
    assert not may_take(changed(attempt=2)) and not may_take(changed(options={"reuse": False}))


async def test_the_latest_result_is_the_one_that_is_found() -> None:
    """A retry's result takes the place of the one before."""
    blobs = MemoryBlobs()
    for body in (BODY, b'{"total":2}'):
        await Reuse(blobs).keep(key(), await done(blobs, body))
    found = await Reuse(blobs).find(key())
    assert found is not None and msgspec.json.encode(found.data) == b'{"total":2}'


def _cut(content: bytes) -> bytes:
    return content[:-5]


def _other_total(content: bytes) -> bytes:
    return content.replace(b"1.10", b"9.10")


def _other_warning(content: bytes) -> bytes:
    return content.replace(b"no_text", b"or_text")


def _nothing(content: bytes) -> bytes:
    return b""


def _of_another_shape(content: bytes) -> bytes:
    body = b'{"result":7}'
    return digest(body).encode() + b"\n" + body


@pytest.mark.parametrize("damage", [_cut, _other_total, _other_warning, _nothing, _of_another_shape])
async def test_what_is_damaged_is_as_if_it_were_not_there(damage: Callable[[bytes], bytes]) -> None:
    """Half a record, a letter of the result or beside it, nothing at all, or somebody else's form."""
    blobs = MemoryBlobs()
    await Reuse(blobs).keep(key(), await done(blobs))
    blobs.objects[key()] = damage(blobs.objects[key()])
    assert await Reuse(blobs).find(key()) is None


@pytest.mark.parametrize("part", ["picture", "result"])
@pytest.mark.parametrize("damage", [_cut, None])
async def test_a_result_is_whole_or_not_taken(part: str, damage: Callable[[bytes], bytes] | None) -> None:
    """Its objects are those of the file that it was made for: one that is gone or damaged takes all away."""
    blobs = MemoryBlobs()
    await Reuse(blobs).keep(key(), await done(blobs, inline=False))
    name = f"t/acme/bat_1/out/{part}"
    content = blobs.objects.pop(name)
    if damage is not None:
        blobs.objects[name] = damage(content)
    assert await Reuse(blobs).find(key()) is None


async def test_what_is_very_large_is_not_kept() -> None:
    """With its pictures it is in memory while it is taken."""
    blobs = MemoryBlobs()
    large = msgspec.structs.replace(await done(blobs), result_bytes=REUSED_BYTES_MAX)
    await Reuse(blobs).keep(key(), large)
    assert await blobs.keys(PREFIX) == []


class Away(MemoryBlobs):
    """A store that answers with an error, with nonsense, or never, as soon as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = self.is_silent = self.is_faulty = False

    async def stat(self, key: str) -> BlobStat | None:
        await self._trouble()
        return await super().stat(key)

    async def put(self, *args: Any, **kwargs: Any) -> BlobRef:
        await self._trouble()
        return await super().put(*args, **kwargs)

    async def _trouble(self) -> None:
        if self.is_away:
            raise Unavailable("s3", "gone fishing")
        if self.is_faulty:
            raise KeyError("damaged")
        if self.is_silent:
            await asyncio.Event().wait()


@pytest.mark.parametrize("how", ["is_away", "is_silent", "is_faulty"])
async def test_a_store_that_does_not_answer_holds_nothing_up(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither looking nor keeping fails, and both end."""
    monkeypatch.setattr(reuse, "REUSE_WAIT_S", 0.05)
    blobs = Away()
    result = await done(blobs)
    await Reuse(blobs).keep(key(), result)
    setattr(blobs, how, True)
    assert await Reuse(blobs).find(key()) is None
    await Reuse(blobs).keep(key(), result)
