"""003: the queue, and the operator's override."""

import httpx2

from tanda.contracts import commands as c
from tanda.contracts import events as e
from tanda.contracts.subjects import batch_subject
from tests.batch_story import BatchStory
from tests.integration.gateway.stand import Stand


async def queue_of(stand: Stand, files: int, number: int = 1) -> BatchStory:
    story = BatchStory(stand.log, stand.blobs, tenant="default", number=number)
    await story.create()
    await story.upload([f"picture {number} {n}".encode() for n in range(files)])
    await story.seal()
    return story


async def told(http: httpx2.AsyncClient) -> dict[str, object]:
    body = (await http.get("/processing_status")).json()
    assert set(body["system"]) >= {"log_position", "view_position", "scheduler_running"}
    return {name: value for name, value in body.items() if name != "system"}


async def test_an_empty_queue_is_told(http: httpx2.AsyncClient) -> None:
    """And nothing can be forced out of it."""
    assert await told(http) == {
        "is_processing": False, "current_image": None, "awaiting_upload": False,
        "pending_upload_count": 0, "queued_count": 0, "archived_count": 0,
    }  # fmt: skip
    answer = await http.post("/force_archive_image")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_stored_image")


async def test_an_image_stays_in_its_place_until_its_archive(stand: Stand, http: httpx2.AsyncClient) -> None:
    """At work it is the current one; with its result it awaits its archive; archived, the next one's turn."""
    story = await queue_of(stand, 3)
    await story.start(0)
    assert await told(http) == {
        "is_processing": True, "current_image": "factura-0.xml", "awaiting_upload": False,
        "pending_upload_count": 0, "queued_count": 2, "archived_count": 0,
    }  # fmt: skip
    await story.complete(0)
    assert await told(http) == {
        "is_processing": False, "current_image": "factura-0.xml", "awaiting_upload": True,
        "pending_upload_count": 1, "queued_count": 2, "archived_count": 0,
    }  # fmt: skip
    source = story.states[story.file_ids[0]].queued
    assert source is not None
    await story.command(c.ArchiveSources(sources={story.file_ids[0]: source.source}))
    assert await told(http) == {
        "is_processing": False, "current_image": "factura-1.xml", "awaiting_upload": False,
        "pending_upload_count": 0, "queued_count": 2, "archived_count": 1,
    }  # fmt: skip


async def test_force_archive_is_recorded_with_who_and_why(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The current one first, then the next, each once; with none left it is a 409."""
    story = await queue_of(stand, 2)
    headers = {"Tanda-Actor": "Ana"}
    first = await http.post("/force_archive_image", json={"reason": "La cámara falló"}, headers=headers)
    second = await http.post("/force_archive_image", headers=headers)
    assert (first.status_code, second.status_code) == (200, 200), first.text + second.text
    assert (first.json()["archived_image"], second.json()["archived_image"]) == (
        "factura-0.xml", "factura-1.xml",
    )  # fmt: skip
    third = await http.post("/force_archive_image")
    assert (third.status_code, third.json()["code"]) == (409, "no_stored_image")
    record = await stand.log.last(batch_subject("default", story.batch_id))
    assert record is not None and isinstance(record.event, e.SourceForceArchived)
    records = [
        record
        async for chunk in stand.log.read(batch_subject("default", story.batch_id))
        for record in chunk
        if isinstance(record.event, e.SourceForceArchived)
    ]
    kept = [(one.actor, one.event.file_id) for one in records if isinstance(one.event, e.SourceForceArchived)]
    assert kept == [("Ana", story.file_ids[0]), ("Ana", story.file_ids[1])]
    assert isinstance(records[0].event, e.SourceForceArchived)
    assert records[0].event.reason == "La cámara falló" and record.event.reason
    assert (await told(http))["archived_count"] == 2


async def test_an_image_at_work_goes_before_an_older_failed_one(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """A failed one is last, so that it never hides the line; a cancelled one has no turn."""
    story = await queue_of(stand, 4)
    await story.fail(0)
    await story.cancel_files(1)
    assert (await told(http))["current_image"] == "factura-2.xml"
    await story.start(3)
    assert (await told(http))["current_image"] == "factura-3.xml"
    assert (await told(http))["is_processing"] is True


async def test_a_force_archive_that_is_sent_again_archives_one_image(
    stand: Stand, http: httpx2.AsyncClient
) -> None:
    """With its key; without one it would be the next image's turn."""
    await queue_of(stand, 2)
    headers = {"Idempotency-Key": "k1"}
    answers = [await http.post("/force_archive_image", headers=headers) for _ in range(2)]
    assert [one.json()["archived_image"] for one in answers] == ["factura-0.xml", "factura-0.xml"]
    assert (await told(http))["archived_count"] == 1
