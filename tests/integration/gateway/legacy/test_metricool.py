"""002: its documented calls, its stream, and what its document admits."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from tanda.contracts import commands as c
from tanda.contracts.results import BlobRef
from tests.batch_story import BatchStory, digest
from tests.integration.gateway.stand import Stand, parts, xml

API = "/api/metricool"


async def story_of(stand: Stand, files: int) -> BatchStory:
    story = BatchStory(stand.log, stand.blobs, tenant="default")
    await story.create()
    await story.upload([f"clip {n}".encode() for n in range(files)])
    await story.seal()
    return story


async def owned(http: httpx2.AsyncClient, owner: str, **metadata: Any) -> httpx2.Response:
    """A batch as docs/legacy.md says that one of 002 is created."""
    form = {"owner": owner, "metadata": json.dumps(metadata)}
    return await http.post("/v1/batches", files=parts(("a.xml", xml())), data=form)


class Messages:
    """A stream's messages as ``(id, data)``, as an EventSource hands them over."""

    def __init__(self, response: httpx2.Response) -> None:
        self._found = self._read(response)

    async def _read(self, response: httpx2.Response) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        seq = 0
        async for line in response.aiter_lines():
            name, _, value = line.partition(": ")
            assert name != "event", "onmessage sees unnamed messages only"
            if name == "id":
                seq = int(value)
            elif name == "data":
                yield seq, json.loads(value)

    async def take(self, count: int) -> list[tuple[int, dict[str, Any]]]:
        return [await asyncio.wait_for(anext(self._found), 5) for _ in range(count)]


@asynccontextmanager
async def listening(
    http: httpx2.AsyncClient, batch_id: str, last: int | None = None
) -> AsyncIterator[Messages]:
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    async with http.stream("GET", f"{API}/batch/{batch_id}/events", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Messages(response)


async def test_six_settled_of_twenty_are_30_percent(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Failed clips are settled too; the same answer by path and by query."""
    story = await story_of(stand, 20)
    await story.complete(0, 1, 2, 3)
    await story.fail(4, 5)
    await story.start(6)
    answer = (await http.get(f"{API}/batch/{story.batch_id}")).json()
    batch = answer["batch"]
    clips = batch["clips"]
    told = {name: batch[name] for name in ("total", "published", "failed", "currentIndex", "progress")}
    assert answer["success"] is True and batch["status"] == "processing"
    assert told == {"total": 20, "published": 4, "failed": 2, "currentIndex": 6, "progress": 30}
    assert [clip["index"] for clip in clips] == list(range(20))
    assert [clip["status"] for clip in clips[3:8]] == [
        "published", "failed", "failed", "uploading", "pending",
    ]  # fmt: skip
    assert clips[4]["title"] == "factura-4.xml" and clips[4]["error"] == "It is a poem."
    assert (await http.get(f"{API}/status?batchId={story.batch_id}")).json() == answer


async def test_a_clip_waits_for_its_confirmation(stand: Stand, http: httpx2.AsyncClient) -> None:
    story = await story_of(stand, 1)
    await story.start(0)
    waiting = c.AwaitFile(token_sha256="ab", deadline="2027-01-01T00:00:00.000Z")
    await story.each({story.file_ids[0]: waiting})
    batch = (await http.get(f"{API}/batch/{story.batch_id}")).json()["batch"]
    assert [clip["status"] for clip in batch["clips"]] == ["waiting_confirmation"]


async def test_active_batches_are_of_one_user_only(http: httpx2.AsyncClient) -> None:
    """And only the unfinished ones; nobody's name lists nobody's batches."""
    mine = (await owned(http, "ana", jobId="job-1", publishMode="now")).json()
    await owned(http, "eva")
    done = (await owned(http, "ana")).json()
    await http.post(f"/v1/batches/{done['id']}/cancel")
    answer = (await http.get(f"{API}/batches/active?userId=ana")).json()
    assert (answer["success"], answer["count"]) == (True, 1)
    (batch,) = answer["batches"]
    assert (batch["batchId"], batch["jobId"], batch["publishMode"]) == (mine["id"], "job-1", "now")
    assert batch["createdAt"] == mine["created_at"] and len(batch["clips"]) == 1
    assert (await http.get(f"{API}/batches/active")).status_code == 422


async def test_a_scheduled_date_becomes_the_start(http: httpx2.AsyncClient) -> None:
    """Unless publishMode says now; one that is missing or no date is refused, not published at once."""
    date = "2031-01-01T12:00:00+02:00"
    batch = (await owned(http, "ana", publishMode="scheduled", scheduledDate=date)).json()
    assert batch["start_at"] == "2031-01-01T10:00:00.000Z"
    assert (await owned(http, "ana", scheduledDate=date)).json()["start_at"] == batch["start_at"]
    assert (await owned(http, "ana", publishMode="now", scheduledDate=date)).json()["start_at"] is None
    assert (await owned(http, "ana", publishMode="draft")).json()["start_at"] is None
    for wrong in ({}, {"scheduledDate": "mañana"}, {"scheduledDate": 7}):
        answer = await owned(http, "ana", publishMode="scheduled", **wrong)
        assert answer.status_code == 422
        assert [error["field"] for error in answer.json()["errors"]] == ["metadata.scheduledDate"]


async def test_the_buttons_answer_with_the_batch(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Pause, resume, retry of the failed ones, cancel; what the state forbids is a 409."""
    story = await story_of(stand, 3)
    await story.complete(0)
    await story.fail(1)

    async def press(button: str) -> dict[str, Any]:
        answer = await http.post(f"{API}/batch/{story.batch_id}/{button}")
        assert answer.status_code == 200 and answer.json()["success"] is True, answer.text
        return answer.json()["batch"]

    assert (await press("pause"))["status"] == "paused"
    assert (await http.post(f"{API}/batch/{story.batch_id}/pause")).json()["state"] == "paused"
    assert (await press("resume"))["status"] == "processing"
    again = await press("retry-failed")
    assert [clip["status"] for clip in again["clips"]] == ["published", "pending", "pending"]
    assert [clip["attempt"] for clip in again["clips"]] == [1, 2, 1]
    assert (await press("cancel"))["status"] == "cancelled"
    nothing = await http.post(f"{API}/batch/bat_01KZWAV4SVZ7D2K9C5H8P0QERA/pause")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "batch_not_found")


async def test_the_stream_tells_each_step(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Connected with what is, then every step, an error with its reason, and the end."""
    story = await story_of(stand, 2)
    async with listening(http, story.batch_id) as messages:
        ((_, connected),) = await messages.take(1)
        assert connected == {
            "type": "connected", "batchId": story.batch_id, "current": 0, "total": 2, "published": 0,
            "errors": 0, "currentStory": "factura-1.xml", "status": "pending", "error": None,
            "timestamp": connected["timestamp"],
        }  # fmt: skip
        await story.complete(0)
        await story.fail(1)
        ref = BlobRef(key="t/r", bytes=1, sha256=digest(b"r"))
        await story.command(c.CompleteBatch(through_seq=1, results=ref, counts={"completed": 1, "failed": 1}))
        told = [message for _, message in await messages.take(5)]
    assert [one["type"] for one in told] == ["progress", "progress", "progress", "error", "completed"]
    assert [one["current"] for one in told] == [0, 1, 1, 2, 2]
    assert (told[3]["currentStory"], told[3]["error"]) == ("factura-1.xml", "It is a poem.")
    assert (told[4]["status"], told[4]["published"], told[4]["errors"]) == ("completed", 1, 1)
    async with listening(http, story.batch_id) as messages:
        late = [message["type"] for _, message in await messages.take(2)]
        assert late == ["connected", "completed"], "who comes late learns of the end"


async def test_a_lost_connection_resumes_without_a_gap(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Cut at every place, the messages are those of a stream that was never cut, each once."""
    story = await story_of(stand, 6)
    async with listening(http, story.batch_id) as whole:
        ((first, _),) = await whole.take(1)
        await story.complete(0, 1)
        await story.fail(2)
        await story.command(c.PauseBatch())
        await story.command(c.ResumeBatch())
        await story.complete(3, 4)
        expected = await whole.take(12)
    for cut in range(len(expected)):
        last = expected[cut - 1][0] if cut else first
        async with listening(http, story.batch_id, last) as resumed:
            assert await resumed.take(len(expected) - cut) == expected[cut:]
    async with listening(http, story.batch_id, expected[-1][0]) as resumed:
        await story.start(5)
        ((_, message),) = await resumed.take(1)
        assert (message["type"], message["currentStory"]) == ("progress", "factura-5.xml")


async def test_a_button_that_is_pressed_again_with_its_key_does_nothing_more(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """The same answer again; the key is good for that button of that batch alone."""
    story = await story_of(stand, 2)
    headers = {"Idempotency-Key": "k1", "Tanda-Actor": "ana"}
    url = f"{API}/batch/{story.batch_id}"
    first = await http.post(f"{url}/pause", headers=headers)
    again = await http.post(f"{url}/pause", headers=headers)
    assert (first.status_code, again.status_code) == (200, 200), again.text
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    other = await http.post(f"{url}/resume", headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await http.post(f"{url}/pause")).status_code == 409


async def test_a_read_waits_for_the_views_and_goes_on_without_them(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """An old page asks for no position: where the views stand still it gets what there is, not a 503."""
    await owned(http, "ana")
    url = f"{API}/batches/active?userId=ana"
    known = await stand.log.position()
    assert (await http.get(url)).headers["tanda-seq"] == str(known)
    stand.views.held = True
    await owned(http, "ana")
    answer = await http.get(url)
    assert (answer.status_code, answer.headers["tanda-seq"]) == (200, str(known))
    asked = await http.get(f"{url}&min_seq={known + 1}&wait=0")
    assert (asked.status_code, asked.json()["code"]) == (503, "view_behind")
