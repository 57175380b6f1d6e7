"""The routes that act: retry, archive, reschedule, limits, bulk actions, quarantine, over a real socket."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.gateway.control import retry as retrying
from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.results import BlobRef, FileError
from tanda.contracts.work import LaneStatus, Presence, SchedulerStatus
from tanda.settings import Settings
from tests.batch_story import BatchStory, digest
from tests.integration.gateway.stand import Stand

DEADLINE_S = 10.0
AT = "2026-11-21T05:13:00.000Z"
KEYS = "acme:k1,globex:k2,ops:k3"


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(
        Settings(data=str(tmp_path), http_endpoints="publisher=http://127.0.0.1:9")
    ).running() as it:
        yield it


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=30) as client:
        yield client


async def finished(stand: Stand, *, completed: int = 1, failed: int = 2, number: int = 1) -> BatchStory:
    """A batch of the default tenant with its results, some files completed and some failed."""
    story = BatchStory(stand.log, stand.blobs, tenant="default", number=number)
    await story.create()
    await story.upload([f"file {n}".encode() for n in range(completed + failed)])
    await story.seal()
    await story.complete(*range(completed))
    await story.fail(*range(completed, completed + failed))
    counts: dict[Any, int] = {"completed": completed, "failed": failed}
    ref = BlobRef(key="t/r", bytes=1, sha256=digest(b"r"))
    await story.command(c.CompleteBatch(through_seq=1, results=ref, counts=counts))
    return story


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not await look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def url(story: BatchStory) -> str:
    return f"/v1/batches/{story.batch_id}"


# -- retry


async def test_all_failed_files_start_again(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The batch is at work again with a further attempt of each; the completed file keeps its result."""
    story = await finished(stand)
    answer = await http.post(f"{url(story)}/retry", json={})
    assert (answer.status_code, answer.json()) == (202, {"retried": 2})
    batch = (await http.get(url(story))).json()
    assert (batch["status"], batch["counts"]["queued"], batch["counts"]["completed"]) == ("processing", 2, 1)
    files = (await http.get(f"{url(story)}/files")).json()["data"]
    assert [(file["status"], file["attempt"]) for file in files] == [
        ("completed", 1), ("queued", 2), ("queued", 2),
    ]  # fmt: skip
    assert batch["results"]["version"] == 1


async def test_chosen_files_start_again_with_another_processor(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """Also a completed one; the event says who asked."""
    story = await finished(stand)
    body = {"file_ids": [story.file_ids[0]], "processor": "invoice"}
    answer = await http.post(f"{url(story)}/retry", json=body, headers={"Tanda-Actor": "Ana"})
    assert answer.json() == {"retried": 1}
    file = (await http.get(f"{url(story)}/files/{story.file_ids[0]}")).json()
    assert (file["status"], file["attempt"], file["processor"]) == ("queued", 2, "invoice")
    history = (await http.get(f"{url(story)}/files/{story.file_ids[0]}/history")).json()["data"]
    assert history[-1]["actor"] == "Ana"


async def test_a_version_is_asked_of_the_workers_that_run(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Refused where none has it, with what they have; else the events carry it."""
    story = await finished(stand, completed=0, failed=1)
    body = {"processor": "invoice", "processor_version": "2"}
    nobody = await http.post(f"{url(story)}/retry", json=body)
    for instance, version in (("a", "1"), ("b", "3")):
        present = Presence(name="worker", instance=instance, at=AT, processors={"invoice": version})
        await stand.board.hello(present)
    others = await http.post(f"{url(story)}/retry", json=body)
    alone = await http.post(f"{url(story)}/retry", json={"processor_version": "3"})
    refused = [(one.status_code, one.json()["errors"][0]["field"]) for one in (nobody, others, alone)]
    assert refused == [(422, "processor_version"), (422, "processor_version"), (422, "processor")]
    assert "they have: none" in nobody.json()["detail"] and "they have: 1, 3" in others.json()["detail"]
    assert [one["name"] for one in (await http.get("/v1/system")).json()["services"]] == ["worker", "worker"]

    assert (await http.post(f"{url(story)}/retry", json=body | {"processor_version": "3"})).status_code == 202
    last = [one async for chunk in stand.log.read(after=story.seq) for one in chunk][-2:]
    asked, queued = (one.event for one in last)
    assert isinstance(asked, e.FilesRetried) and (asked.processor, asked.processor_version) == (
        "invoice",
        "3",
    )
    assert isinstance(queued, e.FileQueued) and (queued.processor, queued.processor_version) == (
        "invoice",
        "3",
    )


async def test_a_retry_repeated_under_its_key_retries_once(stand: Stand, http: httpx2.AsyncClient) -> None:
    story = await finished(stand)
    answers = [
        await http.post(f"{url(story)}/retry", json={}, headers={"Idempotency-Key": "k"}) for _ in range(2)
    ]
    assert [one.json() for one in answers] == [{"retried": 2}] * 2
    assert answers[1].headers["Idempotency-Replayed"] == "true"


async def test_nothing_to_retry_is_refused(stand: Stand, http: httpx2.AsyncClient) -> None:
    """By status, by an empty list, by a file that is not there, by one that is at work."""
    story = await finished(stand, completed=2, failed=0)
    bodies: list[tuple[dict[str, Any], int, str]] = [
        ({}, 422, "empty_selection"),
        ({"file_ids": []}, 422, "empty_selection"),
        ({"file_ids": ["fil_01KZWAV4SVZ7D2K9C5H8P0QERA"]}, 404, "file_not_found"),
        ({"processor": "no-such"}, 422, "invalid_fields"),
        ({"status": "queued"}, 422, "invalid_fields"),
    ]
    for body, status, code in bodies:
        answer = await http.post(f"{url(story)}/retry", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), body
    await http.post(f"{url(story)}/retry", json={"file_ids": story.file_ids[:1]})
    again = await http.post(f"{url(story)}/retry", json={"file_ids": story.file_ids[:1]})
    assert (again.status_code, again.json()["state"]) == (409, "queued")


async def test_a_large_retry_is_never_half_asked_for(
    stand: Stand, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several appends, each with the batch's event and its files' together."""
    monkeypatch.setattr(retrying, "CHUNK_FILES", 2)
    story = await finished(stand, completed=0, failed=5)
    assert (await http.post(f"{url(story)}/retry", json={})).json() == {"retried": 5}
    names = [record.name async for chunk in stand.log.read(after=story.seq) for record in chunk]
    assert names == ["FilesRetried", "FileQueued", "FileQueued"] * 2 + ["FilesRetried", "FileQueued"]


async def test_a_retry_reads_an_archived_source_where_it_is(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The original may be gone by then."""
    story = await finished(stand, completed=1, failed=0)
    archived = BlobRef(key="t/default/archive/x", bytes=6, sha256=digest(b"file 0"))
    await story.command(c.ArchiveSources(sources={story.file_ids[0]: archived}))
    await http.post(f"{url(story)}/retry", json={"status": "completed"})
    last = await stand.log.last(f"ev.default.{story.batch_id}.{story.file_ids[0]}")
    assert last is not None and last.event.source == archived  # pyright: ignore[reportAttributeAccessIssue]


# -- archive


async def test_a_source_is_archived_by_force_with_who_and_why(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The bytes are in the archive before the event; once more is refused."""
    story = await finished(stand)
    body = {"file_ids": story.file_ids[1:2], "reason": "the customer took it back"}
    answer = await http.post(f"{url(story)}/archive", json=body, headers={"Tanda-Actor": "Ana"})
    assert answer.status_code == 202
    last = await stand.log.last(f"ev.default.{story.batch_id}._")
    assert last is not None and (last.name, last.actor) == ("SourceForceArchived", "Ana")
    assert await stand.blobs.read(last.event.source) == b"file 1"  # pyright: ignore[reportAttributeAccessIssue]
    assert last.event.reason == body["reason"]  # pyright: ignore[reportAttributeAccessIssue]
    file = (await http.get(f"{url(story)}/files/{story.file_ids[1]}")).json()
    assert file["source"]["state"] == "archived"
    again = await http.post(f"{url(story)}/archive", json=body)
    assert (again.status_code, again.json()["code"]) == (409, "source_archived")


async def test_an_archive_needs_files_and_a_reason(stand: Stand, http: httpx2.AsyncClient) -> None:
    story = await finished(stand)
    for body in ({"file_ids": [], "reason": "x"}, {"file_ids": story.file_ids, "reason": "  "}):
        assert (await http.post(f"{url(story)}/archive", json=body)).status_code == 422


# -- reschedule


async def test_a_waiting_batch_changes_its_schedule(stand: Stand, http: httpx2.AsyncClient) -> None:
    """What is left out stays; null takes it away; a finished batch refuses."""
    story = BatchStory(stand.log, stand.blobs, tenant="default")
    await story.create()
    await story.upload([b"x"])
    await story.seal()
    body = {"priority": "interactive", "start_at": "2099-01-01T00:00:00+01:00", "limit": 2}
    batch = (await http.patch(url(story), json=body)).json()
    assert (batch["priority"], batch["start_at"], batch["limit"], batch["progress"]["waiting_reason"]) == (
        "interactive", "2098-12-31T23:00:00.000Z", 2, "scheduled",
    )  # fmt: skip
    batch = (await http.patch(url(story), json={"start_at": None})).json()
    assert (batch["priority"], batch["start_at"], batch["limit"]) == ("interactive", None, 2)
    wrong = await http.patch(url(story), json={"limit": 0, "expires_at": "soon"})
    assert {one["field"] for one in wrong.json()["errors"]} == {"limit", "expires_at"}
    done = await finished(stand, number=2)
    assert (await http.patch(url(done), json={"limit": 1})).status_code == 409


# -- limits


async def test_limits_are_set_and_taken_back(stand: Stand, http: httpx2.AsyncClient) -> None:
    """A configured provider is listed with its default; null is the default again."""
    before = (await http.get("/v1/limits")).json()
    assert [(one["name"], one["limit"]) for one in before["providers"]] == [("http-publisher", 3)]
    body = {"providers": {"http-publisher": 5}, "tenants": {"acme": 2}, "processors": {"pdf": 1}}
    put = await http.put("/v1/limits", json=body)
    assert put.headers["Tanda-Seq"] == str(put.json()["changed_seq"])
    after = (await http.get("/v1/limits")).json()
    assert after["providers"][0]["limit"] == 5
    assert (after["tenants"][0]["limit"], after["processors"][0]["limit"]) == (2, 1)
    await http.put("/v1/limits", json={"providers": {"http-publisher": None}, "tenants": {"acme": None}})
    last = (await http.get("/v1/limits")).json()
    assert (last["providers"][0]["limit"], last["tenants"]) == (3, [])


async def test_a_limit_that_makes_no_sense_is_refused(http: httpx2.AsyncClient) -> None:
    for body in ({}, {"tenants": {"a": 0}}, {"tenants": {"_": 1}}, {"providers": {"a b": 1}}, {"x": {}}):
        assert (await http.put("/v1/limits", json=body)).status_code == 422, body


async def test_what_the_scheduler_says_is_shown(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Why a batch waits, and what a brake leaves of a provider."""
    story = BatchStory(stand.log, stand.blobs, tenant="default")
    await story.create()
    await story.upload([b"x"])
    await story.seal()
    lane = LaneStatus(
        name="provider-http-publisher", provider="http-publisher", limit=3, allowed=1, in_flight=0, queued=1,
        braked_until="2099-01-01T00:00:00.000Z", brake_level=2, brake_code="rate_limited",
    )  # fmt: skip
    await stand.board.tell(
        SchedulerStatus(
            leader="w1", at="2026-11-21T05:13:00.000Z", position=1, unfinished_batches=1, queued=1,
            in_flight=0, lanes=[lane], reasons={story.batch_id: "brake"},
        )
    )  # fmt: skip
    assert (await http.get(url(story))).json()["progress"]["waiting_reason"] == "brake"
    (provider,) = (await http.get("/v1/limits")).json()["providers"]
    brake = {"until": lane.braked_until, "level": 2, "code": "rate_limited"}
    assert (provider["allowed_now"], provider["brake"]) == (0, brake)
    system = (await http.get("/v1/system")).json()
    assert (system["scheduler"]["leader"], system["log"]["position"]) == ("w1", story.seq)


async def test_only_an_operators_key_sets_limits(tmp_path: Path) -> None:
    """A tenant's key sees neither the limits of others nor the whole system."""
    settings = Settings(data=str(tmp_path), api_keys=KEYS, operators="ops")
    async with Stand(settings).running() as stand, httpx2.AsyncClient(base_url=stand.url) as http:
        for path in ("/v1/limits", "/v1/system"):
            answer = await http.get(path, headers={"X-Api-Key": "k1"})
            assert (answer.status_code, answer.json()["code"]) == (403, "operator_only")
            assert (await http.get(path, headers={"X-Api-Key": "k3"})).status_code == 200
        answer = await http.put("/v1/limits", json={"tenants": {"acme": 9}}, headers={"X-Api-Key": "k1"})
        assert answer.status_code == 403


# -- bulk actions


async def running_batches(stand: Stand, count: int) -> list[BatchStory]:
    stories: list[BatchStory] = []
    for number in range(1, count + 1):
        story = BatchStory(stand.log, stand.blobs, tenant="default", number=number)
        await story.create(name=f"nómina {number}")
        await story.upload([b"x"])
        await story.seal()
        stories.append(story)
    return stories


async def ended(http: httpx2.AsyncClient, bulk_id: str) -> dict[str, Any]:
    async def done() -> bool:
        return (await http.get(f"/v1/bulk-actions/{bulk_id}")).json()["status"] != "running"

    await until(done)
    return (await http.get(f"/v1/bulk-actions/{bulk_id}")).json()


async def test_a_bulk_action_counts_first_and_then_does(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The dry run changes nothing; the run tells how many it did and how many their state forbade."""
    stories = await running_batches(stand, 3)
    await stories[0].command(c.PauseBatch())
    await finished(stand, number=9)
    asked = {"action": "pause", "filter": {"status": "active", "q": "NÓMINA"}}
    dry = await http.post("/v1/bulk-actions", json={**asked, "dry_run": True})
    assert (dry.status_code, dry.json()["matched"], dry.json()["id"]) == (200, 3, None)
    assert (await http.get(url(stories[1]))).json()["status"] == "queued"
    begun = await http.post("/v1/bulk-actions", json=asked)
    assert begun.status_code == 202
    action = await ended(http, begun.json()["id"])
    assert (action["status"], action["done"], action["skipped"], action["failed"]) == ("completed", 2, 1, 0)
    assert [(await http.get(url(one))).json()["status"] for one in stories] == ["paused"] * 3
    last = await stand.log.last(f"ev.default.{stories[2].batch_id}._")
    assert last is not None and last.command == action["id"]


async def test_a_bulk_action_is_never_on_everything(http: httpx2.AsyncClient) -> None:
    """An empty filter is refused, also one of empty words, and for a dry run too."""
    for wanted in ({}, {"q": ""}, {"batch_ids": []}):
        for dry_run in (True, False):
            body = {"action": "cancel", "filter": wanted, "dry_run": dry_run}
            answer = await http.post("/v1/bulk-actions", json=body)
            assert (answer.status_code, answer.json()["code"]) == (422, "empty_filter")


async def test_failed_files_of_many_batches_are_retried(stand: Stand, http: httpx2.AsyncClient) -> None:
    """A batch without failed files is skipped."""
    stories = [await finished(stand, number=number, failed=number - 1) for number in (1, 2, 3)]
    body = {"action": "retry", "filter": {"batch_ids": [one.batch_id for one in stories]}}
    action = await ended(http, (await http.post("/v1/bulk-actions", json=body)).json()["id"])
    assert (action["done"], action["skipped"]) == (2, 1)


async def test_an_aborted_bulk_action_stops(
    stand: Stand, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is done stays done; the rest is left alone, and a second abort is refused."""
    monkeypatch.setattr("services.gateway.control.bulk.KEEP_EVERY", 1)
    gate = asyncio.Event()
    accept = stand.app.state.gateway.accept
    command = accept.command

    async def gated(*arguments: Any) -> int:
        await gate.wait()
        return await command(*arguments)

    monkeypatch.setattr(accept, "command", gated)
    await running_batches(stand, 4)
    body = {"action": "pause", "filter": {"status": "active"}}
    bulk_id = (await http.post("/v1/bulk-actions", json=body)).json()["id"]
    aborted = await http.post(f"/v1/bulk-actions/{bulk_id}/abort")
    assert (aborted.status_code, aborted.json()["status"]) == (202, "aborted")
    gate.set()
    assert (await http.post(f"/v1/bulk-actions/{bulk_id}/abort")).status_code == 409
    assert (await http.get("/v1/bulk-actions/blk_01M7YBFJQ3PKAQCAMRHQBYR6V4")).status_code == 404

    async def one_paused() -> bool:
        return len((await http.get("/v1/batches?status=paused")).json()["data"]) == 1

    await until(one_paused)


# -- quarantine


async def test_quarantine_shows_what_a_person_should_look_at(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Newest first, until it is retried."""
    story = await finished(stand, completed=0, failed=1)
    await story.upload([b"a", b"b"])
    await story.start(1, 2)
    error = FileError(code="unavailable", message="The provider was away.", retryable=True)
    await story.each({story.file_ids[n]: c.FailFile(error=error, quarantined=True) for n in (1, 2)})
    page = (await http.get("/v1/quarantine?limit=1")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([story.file_ids[2]], True)
    rest = (await http.get(f"/v1/quarantine?cursor={page['next_cursor']}")).json()["data"]
    assert [(one["id"], one["quarantined"]) for one in rest] == [(story.file_ids[1], True)]
    await http.post(f"{url(story)}/retry", json={"file_ids": [story.file_ids[1]]})
    left = (await http.get("/v1/quarantine")).json()["data"]
    assert [one["id"] for one in left] == [story.file_ids[2]]


async def test_batches_of_one_owner_are_listed(stand: Stand, http: httpx2.AsyncClient) -> None:
    for number, owner in enumerate(("ana", "luis"), 1):
        story = BatchStory(stand.log, stand.blobs, tenant="default", number=number)
        await story.command(c.CreateBatch(name="x", owner=owner))
    found = (await http.get("/v1/batches?owner=ana")).json()["data"]
    assert [one["owner"] for one in found] == ["ana"]
