"""Uploads of many files: told in groups in the log, and file by file everywhere else."""

import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from services.gateway.batches import accept
from tanda.contracts import events as e
from tanda.contracts.envelope import NewEvent, Origin, new_event, singly
from tanda.contracts.subjects import file_subject
from tanda.domain.errors import Unavailable
from tests.integration.gateway.stand import Stand, names_in_log, parts, settings_in

FILES = 51
GROUP = "grp_0"
ORIGIN = Origin(source="/test/1")


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(settings_in(tmp_path, patience_s=0.3)).running() as stand:
        yield stand


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=20) as client:
        yield client


async def upload(http: httpx2.AsyncClient, files: int = FILES, **headers: str) -> httpx2.Response:
    sent = parts(*((f"{at:04}.txt", b"file %d" % at) for at in range(files)))
    return await http.post("/v1/batches", data={"processor": "noop"}, files=sent, headers=headers)


async def created(http: httpx2.AsyncClient) -> dict[str, Any]:
    response = await upload(http)
    assert response.status_code == 201, response.text
    return response.json()


async def write(stand: Stand, batch_id: str, token: str, event: e.Event, expected_seq: int) -> None:
    subject = file_subject("default", batch_id, token)
    new: NewEvent = new_event(
        subject, event, expected_seq=expected_seq, time_ms=1_800_000_000_000, origin=ORIGIN
    )
    await stand.log.append([new])


async def complete(stand: Stand, batch_id: str) -> None:
    """All of the batch's only group, as a worker would."""
    queued = await stand.log.last(file_subject("default", batch_id, GROUP))
    assert queued is not None and isinstance(queued.event, e.FilesQueued)
    done: list[tuple[str, e.FileCompleted]] = []
    for file_id, _ in queued.event.files:
        body = b'{"id":"%s"}' % file_id.encode()
        event = e.FileCompleted(
            attempt=1, processor="noop", processor_version="1", duration_ms=1, previous="queued",
            result_sha256=sha256(body).hexdigest(), result_bytes=len(body), result=msgspec.Raw(body),
        )  # fmt: skip
        done.append((file_id, event))
    await write(stand, batch_id, GROUP, e.FilesCompleted(files=done), queued.seq)


async def files_of(http: httpx2.AsyncClient, batch: dict[str, Any]) -> list[dict[str, Any]]:
    return (await http.get(batch["urls"]["files"], params={"limit": 100})).json()["data"]


async def test_an_upload_of_many_files_is_three_events(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The answer and the list of files are what they would be of one event a file."""
    batch = await created(http)
    assert await names_in_log(stand) == ["BatchCreated", "FilesQueued", "BatchSealed"]
    assert batch["counts"] | {"total": FILES, "queued": FILES} == batch["counts"] and batch["seq"] == 3
    assert (await http.get(batch["urls"]["self"])).json()["counts"] == batch["counts"]
    files = await files_of(http, batch)
    assert [one["name"] for one in files] == [f"{at:04}.txt" for at in range(FILES)]
    assert {(one["status"], one["attempt"]) for one in files} == {("queued", 1)}
    first = (await http.get(batch["urls"]["files"], params={"limit": 20})).json()
    rest = (
        await http.get(batch["urls"]["files"], params={"limit": 100, "cursor": first["next_cursor"]})
    ).json()
    assert [one["id"] for one in (*first["data"], *rest["data"])] == [one["id"] for one in files]


async def test_a_file_of_a_group_has_its_own_result_and_history(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """Whatever its neighbours are; a file that the batch does not have is not found in its group."""
    batch = await created(http)
    url = f"{batch['urls']['files']}/{(await files_of(http, batch))[37]['id']}"
    (queued,) = (await http.get(f"{url}/history")).json()["data"]
    assert (queued["type"], queued["seq"], queued["part"]) == ("tanda.FileQueued.v1", 2, 37)
    await complete(stand, batch["id"])
    history = (await http.get(f"{url}/history")).json()["data"]
    assert [(one["type"], one["seq"]) for one in history] == [
        ("tanda.FileQueued.v1", 2), ("tanda.FileCompleted.v1", 4),
    ]  # fmt: skip
    assert {one["fileid"] for one in history} == {url.rpartition("/")[2]}
    assert (await http.get(f"{url}/result")).json() == {"id": url.rpartition("/")[2]}
    assert (await http.get(url)).json()["status"] == "completed"
    unknown = await http.get(f"{url[:-4]}0ZZZ/history")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "file_not_found")


@pytest.mark.parametrize("ended", ["completed", "cancelled"])
async def test_one_file_of_a_group_is_retried(stand: Stand, http: httpx2.AsyncClient, ended: str) -> None:
    """Its next attempt is on its own subject; the others, and the rest of its history, stay as they are."""
    batch = await created(http)
    file_id = (await files_of(http, batch))[5]["id"]
    if ended == "completed":
        await complete(stand, batch["id"])
    else:
        await write(stand, batch["id"], GROUP, e.FilesParted(), 2)
        await write(stand, batch["id"], file_id, e.FileCancelled(attempt=1, previous="queued"), 0)
    retry = f"{batch['urls']['self']}/retry"
    assert (await http.post(retry, json={"file_ids": [file_id]})).status_code == 202
    again = await http.post(retry, json={"file_ids": [file_id]})
    assert again.status_code == 409, "it is queued already"
    files = await files_of(http, batch)
    assert [one["index"] for one in files if one["attempt"] == 2] == [5] and files[5]["status"] == "queued"
    history = (await http.get(f"{batch['urls']['files']}/{file_id}/history")).json()["data"]
    assert [one["type"].split(".")[1] for one in history] == [
        "FileQueued", f"File{ended.capitalize()}", "FileQueued",
    ]  # fmt: skip
    assert history[-1]["data"]["previous"] == ended


async def test_a_repeat_after_a_crash_in_the_middle_writes_what_is_missing(
    stand: Stand, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first chunk is there; under the same key it is finished, in the groups that it would have."""
    monkeypatch.setattr(accept, "CHUNK_FILES", 100)
    log, append = stand.log, stand.log.append
    taken: list[Any] = []

    async def takes_one(events: Any, staged: str = "") -> list[int]:
        if taken:
            raise Unavailable("nats", "gone")
        taken.append(events)
        return await append(events, staged)

    monkeypatch.setattr(log, "append", takes_one)
    key = {"Idempotency-Key": "k-groups"}
    assert (await upload(http, 209, **key)).status_code == 503
    assert await names_in_log(stand) == ["BatchCreated", "FilesQueued"]
    monkeypatch.setattr(log, "append", append)
    again = await upload(http, 209, **key)
    assert again.status_code == 201 and again.json()["counts"]["queued"] == 209
    assert await names_in_log(stand) == ["BatchCreated", *["FilesQueued"] * 3, "BatchSealed"]
    records = [one async for chunk in log.read() for one in singly(chunk)]
    indices = [one.event.index for one in records if isinstance(one.event, e.FileQueued)]
    assert sorted(indices) == list(range(209))
    tokens = [one.file_id async for chunk in log.read() for one in chunk if one.name == "FilesQueued"]
    assert sorted(map(str, tokens)) == ["grp_0", "grp_1", "grp_2"]
    assert (await upload(http, 209, **key)).content == again.content


async def test_a_page_of_events_ends_with_a_position(stand: Stand, http: httpx2.AsyncClient) -> None:
    """It is longer than was asked for rather than torn; page by page each event comes once."""
    batch = await created(http)
    await complete(stand, batch["id"])
    await write(stand, batch["id"], (await files_of(http, batch))[0]["id"], e.FileCancelled(
        attempt=1, previous="completed"), 0)  # fmt: skip
    seen: list[dict[str, Any]] = []
    sizes: list[int] = []
    more, after = True, "0"
    while more and len(sizes) < 5:
        url = f"{batch['urls']['self']}/events"
        page = (await http.get(url, params={"limit": 10, "after": after})).json()
        seen += page["data"]
        sizes.append(len(page["data"]))
        more, after = page["has_more"], page["next_cursor"]
    assert sizes == [1 + FILES, 1 + FILES, 1]
    assert [one["seq"] for one in seen] == [1, *[2] * FILES, 3, *[4] * FILES, 5]
    for position in (2, 4):
        told = [one for one in seen if one["seq"] == position]
        assert [one["part"] for one in told] == list(range(FILES))
        assert len({one["id"] for one in told}) == len({one["fileid"] for one in told}) == FILES


async def test_a_stream_that_is_resumed_gets_whole_positions(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Only the last event of a group has an id: who lost the connection before it gets all of them again."""
    batch = await created(http)
    await complete(stand, batch["id"])
    for after, expected in ((1, [2, 3, 4]), (2, [3, 4]), (3, [4])):
        frames = await frames_after(http, after, 4)
        ids = [number for number, _ in frames if number is not None]
        assert ids == expected
        seqs = [data["seq"] for _, data in frames]
        assert seqs == [seq for seq in expected for _ in range(1 if seq == 3 else FILES)]
        last_parts = [data["part"] for number, data in frames if number in (2, 4)]
        assert last_parts == [FILES - 1] * len(last_parts)


async def frames_after(http: httpx2.AsyncClient, after: int, last: int) -> list[tuple[int | None, Any]]:
    """A stream's frames up to a position, each with its id if it has one."""
    found: list[tuple[int | None, Any]] = []
    number: int | None = None
    async with http.stream("GET", "/v1/events", headers={"Last-Event-ID": str(after)}) as response:
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                found.append((number, json.loads(value)))
                if number == last:
                    break
                number = None
    return found
