"""004: its documented calls, and what its document admits."""

from pathlib import Path

import httpx2

from tanda.contracts.subjects import batch_subject
from tests.batch_story import BatchStory
from tests.integration.gateway.stand import Stand, parts, settings_in, xml

UPLOAD = "/universal-invoice/sessions/batch-upload/"
STATUS = "/universal-invoice/sessions/batch-status"
CANCEL = "/universal-invoice/sessions/batch-cancel"
MESSAGE = "Los archivos se están procesando. Puedes salir de esta página y el procesamiento continuará."


async def story_of(stand: Stand, files: int, completed: int, number: int = 1) -> BatchStory:
    story = BatchStory(stand.log, stand.blobs, tenant="acme", number=number)
    await story.create()
    await story.upload([f"file {n}".encode() for n in range(files)])
    await story.seal()
    await story.complete(*range(completed))
    return story


async def test_an_upload_answers_in_its_words(stand: Stand, http: httpx2.AsyncClient) -> None:
    """The tenant is the company, the owner the user, the sessions the files that are taken."""
    files = parts(("a.xml", xml(1)), ("b.xml", xml(2)))
    answer = await http.post(f"{UPLOAD}?company_id=acme&user_id=ana", files=files)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    batch = (await http.get(f"/v1/batches/{body['batch_id']}")).json()
    listed = (await http.get(f"/v1/batches/{body['batch_id']}/files")).json()["data"]
    assert body == {
        "batch_id": batch["id"],
        "total_files": 2,
        "created_sessions": 2,
        "session_ids": [file["id"] for file in listed],
        "status": "processing_in_background",
        "message": MESSAGE,
        "created_at": batch["created_at"],
        "skipped_files": [],
    }
    assert batch["owner"] == "ana"
    assert await stand.log.last(batch_subject("acme", batch["id"])) is not None


async def test_unsupported_files_are_skipped_with_a_reason(http: httpx2.AsyncClient) -> None:
    """Also all of them: no session is created, and there is nothing to wait for."""
    files = parts(("tool.exe", b"MZ\x90\0\x03\0"), ("clip.mp4", b"\0\0\0\x18ftypmp42"))
    body = (await http.post(f"{UPLOAD}?company_id=acme", files=files)).json()
    assert (body["total_files"], body["created_sessions"], body["session_ids"]) == (2, 0, [])
    assert [one["filename"] for one in body["skipped_files"]] == ["tool.exe", "clip.mp4"]
    assert all(one["code"] == "unsupported_type" and one["reason"] for one in body["skipped_files"])
    status = (await http.get(f"{STATUS}/{body['batch_id']}?company_id=acme")).json()
    assert status == {
        "batch_id": body["batch_id"], "total_sessions": 0, "completed": 0, "failed": 0, "pending": 0,
        "progress_percentage": 0.0, "is_complete": True, "sessions": [],
    }  # fmt: skip


async def test_forty_eight_of_fifty_one_are_94_1_percent(stand: Stand, http: httpx2.AsyncClient) -> None:
    """And the three others are told apart."""
    story = await story_of(stand, files=51, completed=48)
    await story.fail(48)
    await story.start(49)
    status = (await http.get(f"{STATUS}/{story.batch_id}?company_id=acme")).json()
    sessions = status.pop("sessions")
    assert status == {
        "batch_id": story.batch_id, "total_sessions": 51, "completed": 48, "failed": 1, "pending": 2,
        "progress_percentage": 94.1, "is_complete": False,
    }  # fmt: skip
    assert [one["status"] for one in sessions[47:]] == ["completed", "failed", "processing", "pending"]
    assert sessions[48]["error"] == "It is a poem."


async def test_status_lists_this_batchs_sessions_only(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Never what else the company uploaded in the same hour."""
    one, other = await story_of(stand, 3, 0, number=1), await story_of(stand, 4, 4, number=2)
    status = (await http.get(f"{STATUS}/{one.batch_id}?company_id=acme")).json()
    assert [session["session_id"] for session in status["sessions"]] == one.file_ids
    assert status["completed"] == 0 and set(other.file_ids).isdisjoint(one.file_ids)


async def test_a_cancel_answers_with_the_status_after(stand: Stand, http: httpx2.AsyncClient) -> None:
    """A second one is refused with the state."""
    story = await story_of(stand, 3, 1)
    answer = await http.post(f"{CANCEL}/{story.batch_id}?company_id=acme")
    assert answer.status_code == 200 and answer.json()["total_sessions"] == 3
    assert (await http.get(f"/v1/batches/{story.batch_id}")).json()["status"] == "cancelled"
    again = await http.post(f"{CANCEL}/{story.batch_id}?company_id=acme")
    assert (again.status_code, again.json()["state"]) == (409, "cancelled")


async def test_another_companys_batch_is_not_there(stand: Stand, http: httpx2.AsyncClient) -> None:
    """Without keys the query names the tenant."""
    story = await story_of(stand, 1, 0)
    for call in (http.get(f"{STATUS}/{story.batch_id}?company_id=globex"),
                 http.post(f"{CANCEL}/{story.batch_id}?company_id=globex")):  # fmt: skip
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (404, "batch_not_found")
    assert (await http.get(f"{STATUS}/{story.batch_id}?company_id=a b")).status_code == 422


async def test_with_keys_the_query_agrees_with_the_credential(tmp_path: Path) -> None:
    """403 where it names another company or user, before a byte is kept."""
    async with Stand(settings_in(tmp_path, api_keys="acme:k1,globex:k2")).running() as stand:
        headers = {"Authorization": "Bearer k1", "Tanda-Actor": "ana"}
        async with httpx2.AsyncClient(base_url=stand.url, headers=headers) as http:
            for query in ("company_id=globex", "company_id=acme&user_id=eva"):
                answer = await http.post(f"{UPLOAD}?{query}", files=parts(("a.xml", xml())))
                assert (answer.status_code, answer.json()["code"]) == (403, "credential_mismatch")
            assert await stand.log.position() == 0
            own = await http.post(f"{UPLOAD}?company_id=acme&user_id=ana", files=parts(("a.xml", xml())))
            url = f"{STATUS}/{own.json()['batch_id']}"
            assert (await http.get(f"{url}?company_id=acme")).status_code == 200
            assert (await http.get(f"{url}?company_id=globex")).status_code == 403
            foreign = await http.get(url, headers={"Authorization": "Bearer k2"})
            assert foreign.status_code == 404
            users = await http.get("/api/metricool/batches/active?userId=eva")
            assert (users.status_code, users.json()["code"]) == (403, "credential_mismatch")
