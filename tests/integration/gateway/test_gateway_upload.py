"""Uploads over a real socket: what a batch is made of, and that a failed one leaves nothing behind."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.contracts import events as e
from tanda.contracts.envelope import singly
from tanda.contracts.results import BlobRef
from tanda.domain.errors import Unavailable
from tests.integration.gateway.stand import Stand, names_in_log, parts, settings_in, xml


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    """Small limits, so that tests reach them."""
    settings = settings_in(
        tmp_path, pack_file_bytes_max=1_000, pack_bytes=4_000, file_bytes_max=50_000,
        upload_bytes_max=400_000, batch_files_max=1_500, uploads_concurrent_max=3, patience_s=1.0,
    )  # fmt: skip
    async with Stand(settings).running() as stand:
        yield stand


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=20) as client:
        yield client


async def queued(stand: Stand) -> list[e.FileQueued]:
    return [
        record.event
        async for records in stand.log.read()
        for record in singly(records)
        if isinstance(record.event, e.FileQueued)
    ]


async def nothing_is_left(stand: Stand) -> bool:
    """No event, no object, no spool file."""
    spooled = [path for path in stand.spool.rglob("*") if path.is_file()]
    return not await stand.log.position() and not stand.blobs.objects and not spooled


async def test_a_batch_is_written_whole(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Created, its files in order, sealed: one append; the answer is made of the events."""
    files = parts(("a.xml", xml(1)), ("b.exe", b"MZ\0\0"), ("c.xml", xml(2)))
    fields = {"name": "noviembre", "metadata": '{"k": 1}', "tags": "uno,dos", "priority": "bulk"}
    response = await http.post("/v1/batches", data=fields, files=files)
    assert response.status_code == 201, response.text
    batch = response.json()
    assert response.headers["tanda-seq"] == "5" and response.headers["location"] == batch["urls"]["self"]
    assert batch["name"] == "noviembre" and batch["metadata"] == {"k": 1} and batch["tags"] == ["uno", "dos"]
    assert batch["counts"] | {"total": 3, "queued": 2, "rejected": 1} == batch["counts"]
    assert batch["priority"] == "bulk" and batch["status"] == "queued" and batch["seq"] == 5
    assert await names_in_log(stand) == [
        "BatchCreated", "FileQueued", "FileRejected", "FileQueued", "BatchSealed",
    ]  # fmt: skip
    assert (await http.get(batch["urls"]["self"])).json()["counts"] == batch["counts"]


async def test_small_files_share_an_object_and_large_ones_have_their_own(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """Every reference gives exactly the bytes that were sent; no key tells a user's name."""
    sent = {f"f{number}.xml": xml(number) * 3 for number in range(60)}
    sent["large.xml"] = xml(7) * 100
    response = await http.post("/v1/batches", files=parts(*sent.items()))
    assert response.status_code == 201
    batch_id = response.json()["id"]
    for event in await queued(stand):
        assert await stand.blobs.read(event.source) == sent[event.name]
        assert event.source.key.startswith(f"t/default/{batch_id}/src/")
    assert 1 < len(stand.blobs.objects) < 10
    assert all(re.fullmatch("[0-9a-f]{32,64}", key.rpartition("/")[2]) for key in stand.blobs.objects)


@pytest.mark.parametrize("first", [True, False], ids=["fields-first", "files-first"])
async def test_fields_may_come_before_or_after_the_files(
    stand: Stand, http: httpx2.AsyncClient, first: bool
) -> None:
    """A processor without types takes anything, also where it is named last."""
    files = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x.bin"\r\n\r\nMZ\0\0\r\n'
    field = b'--b\r\nContent-Disposition: form-data; name="processor"\r\n\r\nnoop\r\n'
    body = (field + files if first else files + field) + b"--b--\r\n"
    response = await http.post(
        "/v1/batches", content=body, headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert response.json()["counts"]["queued"] == 1
    (event,) = await queued(stand)
    assert (event.processor, await stand.blobs.read(event.source)) == ("noop", b"MZ\0\0")


async def test_a_refused_file_is_not_stored(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Its event tells why; its bytes are nowhere."""
    response = await http.post("/v1/batches", files=parts(("a.exe", b"MZ\0\0" * 1_000)))
    assert response.status_code == 201 and response.json()["counts"]["rejected"] == 1
    assert not stand.blobs.objects
    assert not [path for path in stand.spool.rglob("*") if path.is_file()]


async def test_more_files_than_one_append_takes(stand: Stand, http: httpx2.AsyncClient) -> None:
    """In chunks, the seal last; files in groups, rejected ones by themselves; indices are the upload's."""
    files = [("b.exe", b"MZ\0\0") if n % 4 else ("a.xml", xml(n)) for n in range(1_400)]
    response = await http.post("/v1/batches", files=parts(*files))
    assert response.status_code == 201 and response.json()["counts"]["queued"] == 350
    names = await names_in_log(stand)
    assert names[0] == "BatchCreated" and names[-1] == "BatchSealed" and len(names) == 1_066
    assert (names.count("FilesQueued"), names.count("FileRejected")) == (14, 1_050)
    assert [event.index for event in await queued(stand)] == list(range(0, 1_400, 4))


ONE = parts(("a.xml", xml()))
FILE_HEAD = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.xml"\r\n\r\n'
HEAD = (
    b"POST /v1/batches HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)


@pytest.mark.parametrize(
    ("fields", "files", "status", "code"),
    [
        ({}, [], 422, "empty_batch"),
        ({"nmae": "x"}, ONE, 422, "invalid_fields"),
        ({"options": "[1]"}, ONE, 422, "invalid_fields"),
        ({"metadata": "{"}, ONE, 422, "invalid_fields"),
        ({"priority": "urgent"}, ONE, 422, "invalid_fields"),
        ({"processor": "nope"}, ONE, 422, "invalid_fields"),
        ({"start_at": "mañana"}, ONE, 422, "invalid_fields"),
        ({"options": '{"a": "%s"}' % ("x" * 9_000)}, ONE, 422, "invalid_fields"),
        ({"tags": [""] * 1_001}, ONE, 422, "invalid_fields"),
        ({"metadata": "x" * 70_000}, ONE, 413, "field_too_large"),
        ({}, parts(("a.xml", xml()), ("big.xml", b"<a>" * 20_000)), 413, "file_too_large"),
        ({}, parts(*[("a.xml", b"<a/>" * 10_000) for _ in range(11)]), 413, "upload_too_large"),
        ({}, parts(*[("a.xml", b"<a/>") for _ in range(1_501)]), 413, "too_many_files"),
        ({}, [("file", ("a.xml", xml()))], 422, "invalid_fields"),
    ],
)
async def test_a_refused_upload_leaves_nothing(
    stand: Stand, http: httpx2.AsyncClient, fields: dict[str, Any], files: Any, status: int, code: str
) -> None:
    """A problem with its code, and neither event nor object nor spool file."""
    content: dict[str, Any] = {"data": fields, "files": files}
    if not files:
        content = {"content": b"--b--\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}
    response = await http.post("/v1/batches", **content)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert (code != "invalid_fields") or response.json()["errors"][0]["field"]
    assert await nothing_is_left(stand)


async def test_a_broken_body_is_a_400(stand: Stand, http: httpx2.AsyncClient) -> None:
    """It ends before its boundary, or has none."""
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    body = FILE_HEAD + xml() * 90
    long = {"Content-Type": f"multipart/form-data; boundary={'b' * 500}"}
    for content, kind in ((body, headers), (b"x", {"Content-Type": "multipart/form-data"}), (body, long)):
        response = await http.post("/v1/batches", content=content, headers=kind)
        assert (response.status_code, response.json()["code"]) == (400, "bad_multipart")
    assert await nothing_is_left(stand)


async def test_a_client_that_leaves_creates_nothing(stand: Stand) -> None:
    """Its connection breaks in the middle of a large file."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stand.url.rpartition(":")[2]))
    writer.write(
        HEAD
        + b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.xml"\r\n\r\n'
        + b"<a/>" * 5_000
    )
    await writer.drain()
    while not stand.app.state.gateway.intake._active:
        await asyncio.sleep(0.01)
    writer.close()
    for _ in range(200):
        if await nothing_is_left(stand):
            break
        await asyncio.sleep(0.01)
    assert await nothing_is_left(stand)
    del reader


async def test_a_slow_body_is_cut(tmp_path: Path) -> None:
    """A body that stops coming gets 408 once its grace is used up."""
    stand = Stand(settings_in(tmp_path), body_grace_s=0.3)
    async with stand.running():
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stand.url.rpartition(":")[2]))
        writer.write(HEAD + FILE_HEAD + b"x")
        answer = await reader.readuntil(b"}")
        assert answer.startswith(b"HTTP/1.1 408") and b"body_too_slow" in answer
        assert await nothing_is_left(stand)
        writer.close()


async def test_too_many_uploads_at_once_are_told_to_come_back(stand: Stand, http: httpx2.AsyncClient) -> None:
    """503 with Retry-After, and the others go on."""
    release = asyncio.Event()

    async def slow(number: int) -> AsyncIterator[bytes]:
        yield FILE_HEAD
        await release.wait()
        yield xml(number) + b"\r\n--b--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    running = [
        asyncio.create_task(http.post("/v1/batches", content=slow(number), headers=headers))
        for number in range(3)
    ]
    while stand.app.state.gateway.intake._active < 3:
        await asyncio.sleep(0.01)
    refused = await http.post("/v1/batches", files=ONE)
    assert (refused.status_code, refused.json()["code"]) == (503, "busy")
    assert int(refused.headers["retry-after"]) >= 1
    release.set()
    assert [response.status_code for response in await asyncio.gather(*running)] == [201] * 3


class FlakyLog(MemoryLog):
    """A log whose first answers are lost after it has written."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    async def append(self, events: Any, staged: str = "") -> list[int]:
        seqs = await super().append(events, staged)
        if self.losses:
            self.losses -= 1
            raise Unavailable("nats", "the answer was lost")
        return seqs


async def test_events_are_sent_ahead_and_written_when_the_bytes_are_durable(tmp_path: Path) -> None:
    """The log gets its work early; nothing is in it before the store has synced."""
    lines: list[str] = []

    class Log(MemoryLog):
        async def stage(self, events: Any) -> str:
            lines.append(f"{len(events)} sent")
            return "ahead"

        async def append(self, events: Any, staged: str = "") -> list[int]:
            lines.append(f"{len(events)} written, {staged}")
            return await super().append(events, staged)

    class Synced(MemoryBlobs):
        async def barrier(self) -> None:
            await super().barrier()
            lines.append("durable")

    stand = Stand(settings_in(tmp_path), log=Log(), blobs=Synced())
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        assert (await http.post("/v1/batches", files=ONE)).status_code == 201
    assert lines == ["3 sent", "durable", "3 written, ahead"]


@pytest.mark.parametrize(("losses", "status"), [(2, 201), (99, 503)])
async def test_an_unknown_outcome_is_settled_by_repeating(tmp_path: Path, losses: int, status: int) -> None:
    """The same events again, so nothing twice; 503 with Retry-After where patience ends.

    Either way the events may be in the log, and here they are: their sources have to stay.
    """
    log = FlakyLog(losses)
    stand = Stand(settings_in(tmp_path, patience_s=1.0), log=log)
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        response = await http.post("/v1/batches", files=ONE)
    assert response.status_code == status
    assert await log.position() == 3
    assert status == 201 or response.headers["retry-after"]
    (event,) = [record.event async for some in log.read() for record in some if record.name == "FileQueued"]
    assert isinstance(event, e.FileQueued) and await stand.blobs.read(event.source) == xml()


class FullBlobs(MemoryBlobs):
    """A store that takes nothing."""

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        raise Unavailable("s3", "the disk is full")


async def test_a_store_that_fails_is_a_503(tmp_path: Path) -> None:
    """No event without its bytes."""
    stand = Stand(settings_in(tmp_path), blobs=FullBlobs())
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        response = await http.post("/v1/batches", files=ONE)
    assert (response.status_code, response.json()["code"]) == (503, "unavailable")
    assert await stand.log.position() == 0


class HungBlobs(FullBlobs):
    """A store that fails, and then does not even answer."""

    async def put(self, key: str, data: bytes | Path, *, sha256: str, content_type: str) -> BlobRef:
        await MemoryBlobs.put(self, key, data, sha256=sha256, content_type=content_type)
        raise Unavailable("s3", "no answer")

    async def delete(self, key: str) -> None:
        await asyncio.sleep(60)


async def test_a_failure_does_not_wait_for_its_own_cleaning_up(tmp_path: Path) -> None:
    """With a store that hangs, taking back costs as long again as the upload."""
    stand = Stand(settings_in(tmp_path), blobs=HungBlobs())
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url, timeout=5) as http:
        assert (await http.post("/v1/batches", files=ONE)).status_code == 503


# -- repeated requests


async def test_a_repeated_request_gets_the_first_answer(stand: Stand, http: httpx2.AsyncClient) -> None:
    """One batch; another body under the same key is refused; another tenant's key is another key."""
    headers = {"Idempotency-Key": "k-1"}
    first = await http.post("/v1/batches", files=ONE, headers=headers)
    objects = dict(stand.blobs.objects)
    again = await http.post("/v1/batches", files=ONE, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["idempotency-replayed"] == "true" and "idempotency-replayed" not in first.headers
    assert again.headers["tanda-seq"] == first.headers["tanda-seq"]
    assert stand.blobs.objects == objects
    other = await http.post("/v1/batches", files=parts(("a.xml", xml(2))), headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    foreign = await http.post("/v1/batches", files=ONE, headers={**headers, "Tanda-Tenant": "acme"})
    assert foreign.json()["id"] != first.json()["id"]


async def test_a_retry_after_a_crash_makes_no_second_batch(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The first try wrote everything and died before its answer: the reserved id finds it again."""
    store = stand.deps.idempotency
    finish = store.finish

    async def die(*_: Any) -> None:
        raise Unavailable("postgres", "gone")

    store.finish = die  # type: ignore[method-assign]
    headers = {"Idempotency-Key": "k-2"}
    first = await http.post("/v1/batches", files=ONE, headers=headers)
    store.finish = finish  # type: ignore[method-assign]
    await store.release("default", "k-2")
    again = await http.post("/v1/batches", files=ONE, headers=headers)
    assert again.status_code == 201 and again.json()["id"] == first.json()["id"]
    assert (await names_in_log(stand)).count("BatchCreated") == 1
    (event,) = await queued(stand)
    assert await stand.blobs.read(event.source) == xml()
    assert len(stand.blobs.objects) == 1


# -- open, put, seal


def digest(data: bytes) -> dict[str, str]:
    return {"Content-Digest": f"sha-256=:{base64.b64encode(sha256(data).digest()).decode()}:"}


async def test_a_batch_is_filled_file_by_file(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Open, PUT, seal; a repeat changes nothing, other bytes under the same name are refused."""
    opened = await http.post("/v1/batches", json={"name": "abierto", "open": True})
    assert opened.status_code == 201 and opened.json()["status"] == "open"
    url = opened.json()["urls"]["self"]
    put = await http.put(f"{url}/files/a%20%C3%B1.xml", content=xml(1), headers=digest(xml(1)))
    assert put.status_code == 201 and put.json()["name"] == "a ñ.xml" and put.json()["index"] == 0
    again = await http.put(f"{url}/files/a%20%C3%B1.xml", content=xml(1))
    assert (again.status_code, again.json()["id"]) == (200, put.json()["id"])
    other = await http.put(f"{url}/files/a%20%C3%B1.xml", content=xml(2))
    assert (other.status_code, other.json()["code"]) == (409, "file_exists")
    wrong = await http.put(f"{url}/files/b.xml", content=xml(2), headers=digest(xml(3)))
    assert (wrong.status_code, wrong.json()["code"]) == (400, "digest_mismatch")
    large = await http.put(f"{url}/files/sub/c.xml", content=xml(3) * 300)
    assert large.status_code == 201 and large.json()["name"] == "c.xml" and large.json()["index"] == 1
    refused = await http.put(f"{url}/files/d.exe", content=b"MZ\0\0")
    assert refused.status_code == 201 and refused.json()["status"] == "rejected"
    sealed = await http.post(f"{url}/seal")
    assert sealed.status_code == 202 and sealed.json()["counts"]["total"] == 3
    assert sealed.json()["counts"]["rejected"] == 1 and sealed.json()["status"] == "queued"
    twice = await http.post(f"{url}/seal")
    assert (twice.status_code, twice.json()["state"]) == (409, "sealed")
    late = await http.put(f"{url}/files/e.xml", content=xml(4))
    assert (late.status_code, late.json()["code"]) == (409, "batch_closed")
    repeated = await http.put(f"{url}/files/a%20%C3%B1.xml", content=xml(1))
    assert (repeated.status_code, repeated.json()["id"]) == (200, put.json()["id"]), "whose answer was lost"
    assert [await stand.blobs.read(event.source) for event in await queued(stand)] == [xml(1), xml(3) * 300]


async def test_a_batch_is_filled_many_files_at_a_time(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Each file has its place; a repeat adds what is missing, and other bytes in a place are refused."""
    url = (await http.post("/v1/batches", json={"open": True})).json()["urls"]["self"]

    async def add(index: int, *numbers: int) -> httpx2.Response:
        files = [("files", ("same.xml", xml(number), "text/xml")) for number in numbers]
        return await http.post(f"{url}/files?index={index}", files=files)

    first = await add(2, 2, 3)
    assert (first.status_code, first.json()) == (201, {"added": 2})
    assert (await add(1, 1, 2, 3)).json() == {"added": 1}
    again = await add(1, 1, 2, 3)
    assert (again.status_code, again.json()) == (200, {"added": 0})
    other = await add(3, 9)
    assert (other.status_code, other.json()["code"]) == (409, "file_exists")
    refused = [("files", ("d.exe", b"MZ\0\0"))]
    assert (await http.post(f"{url}/files?index=4", files=refused)).status_code == 201
    named = await http.post(f"{url}/files?index=5", files=refused, data={"name": "no"})
    assert (named.status_code, named.json()["code"]) == (422, "invalid_fields")
    sealed = (await http.post(f"{url}/seal")).json()
    assert sealed["counts"]["total"] == 4 and sealed["counts"]["rejected"] == 1
    assert (await add(7, 7)).json()["code"] == "batch_closed"
    found = {event.index: await stand.blobs.read(event.source) for event in await queued(stand)}
    assert found == {1: xml(1), 2: xml(2), 3: xml(3)}


async def test_nothing_to_seal(http: httpx2.AsyncClient) -> None:
    """A batch needs at least one file, also file by file."""
    url = (await http.post("/v1/batches", json={})).json()["urls"]["self"]
    response = await http.post(f"{url}/seal")
    assert (response.status_code, response.json()["code"]) == (422, "empty_batch")


async def test_a_json_body_is_strict(http: httpx2.AsyncClient) -> None:
    """An unknown field is an error that names it; so is another type of body."""
    extra = await http.post("/v1/batches", json={"name": "x", "tenant_id": "y"})
    assert extra.status_code == 422 and "tenant_id" in extra.text
    broken = await http.post("/v1/batches", content=b"{", headers={"Content-Type": "application/json"})
    assert (broken.status_code, broken.json()["code"]) == (400, "bad_json")
    other = await http.post("/v1/batches", content=b"x", headers={"Content-Type": "text/plain"})
    assert other.status_code == 415


async def test_pause_resume_cancel(http: httpx2.AsyncClient) -> None:
    """Each answers with the batch as it then is; what the state forbids is a 409 that names it."""
    url = (await http.post("/v1/batches", files=ONE)).json()["urls"]["self"]
    paused = await http.post(f"{url}/pause")
    assert (paused.status_code, paused.json()["status"]) == (202, "paused")
    forbidden = await http.post(f"{url}/pause")
    assert (forbidden.status_code, forbidden.json()["state"]) == (409, "paused")
    assert (await http.post(f"{url}/resume")).json()["status"] == "queued"
    assert (await http.post(f"{url}/cancel")).json()["status"] == "cancelled"
    assert (await http.post(f"{url}/resume")).status_code == 409
    unknown = await http.post("/v1/batches/bat_01M7YBFJQ3PKAQCAMRHQBYR6V4/pause")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "batch_not_found")
