"""004, which stopped with its page, mixed up batches, and made ids out of seconds."""

from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.legacy.conftest import Older, gathered, parts, table
from tests.running import declared_type

UPLOAD = "/universal-invoice/sessions/batch-upload/"
STATUS = "/universal-invoice/sessions/batch-status"


async def status_of(older: Older, batch_id: str, company: str) -> dict[str, Any]:
    async with older.stack.http() as http:
        answer = await http.get(f"{STATUS}/{batch_id}?company_id={company}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_page_closes_after_the_upload_and_all_51_are_processed(older: Older, tenant: str) -> None:
    """The connection is gone with the answer, nobody polls, and each of the 51 comes to its end."""
    files = parts(*((f"{n}.csv", table(n)) for n in range(51)))
    async with older.stack.http() as page:
        answer = await page.post(f"{UPLOAD}?company_id={tenant}&user_id=ana", files=files)
    uploaded = answer.json()
    assert (uploaded["total_files"], uploaded["created_sessions"]) == (51, 51)
    assert (uploaded["status"], len(uploaded["session_ids"])) == ("processing_in_background", 51)
    await older.stack.until(lambda: document_of(older, uploaded["batch_id"]), 60)
    status = await status_of(older, uploaded["batch_id"], tenant)
    sessions = status.pop("sessions")
    assert status == {
        "batch_id": uploaded["batch_id"], "total_sessions": 51, "completed": 51, "failed": 0, "pending": 0,
        "progress_percentage": 100.0, "is_complete": True,
    }  # fmt: skip
    assert [one["session_id"] for one in sessions] == uploaded["session_ids"]
    completed = await older.events(uploaded["batch_id"], "FileCompleted")
    assert sorted(one["fileid"] for one in completed) == sorted(uploaded["session_ids"]), "each once"


def document_of(older: Older, batch_id: str) -> bool:
    """Whether storage says that it has the batch's document: looked up in its log, not by the API."""
    return any(line["batch"] == batch_id for line in older.logged("storage", "A batch is complete."))


async def test_status_lists_this_batchs_sessions_only_never_the_last_hours(older: Older, tenant: str) -> None:
    """Two uploads of the same names by the same company in the same moment stay two."""
    files = parts(("a.csv", table(1)), ("b.csv", table(2)))
    async with older.stack.http() as http:
        answers = await gathered([http.post(f"{UPLOAD}?company_id={tenant}", files=files) for _ in "12"])
    for uploaded in (answer.json() for answer in answers):
        await older.stack.finished(uploaded["batch_id"])
        status = await status_of(older, uploaded["batch_id"], tenant)
        assert [one["session_id"] for one in status["sessions"]] == uploaded["session_ids"]
        assert (status["total_sessions"], status["completed"]) == (2, 2)


async def test_ids_never_collide_within_a_second(older: Older, tenant: str) -> None:
    """Twenty uploads of the same file at once: twenty batches, twenty sessions."""
    files = parts(("a.csv", table(1)))
    async with older.stack.http() as http:
        answers = await gathered([http.post(f"{UPLOAD}?company_id={tenant}", files=files) for _ in range(20)])
        bodies = [answer.json() for answer in answers]
        listed = (await http.get("/v1/batches?limit=200", headers={"Tanda-Tenant": tenant})).json()["data"]
    batches = {body["batch_id"] for body in bodies}
    assert len({body["created_at"][:19] for body in bodies}) < 20, "some were of the same second"
    assert len(batches) == len({session for body in bodies for session in body["session_ids"]}) == 20
    assert {one["id"] for one in listed} <= batches


async def test_unsupported_files_are_skipped_with_a_reason_and_created_sessions_may_be_0(
    older: Older, tenant: str, tmp_path: Path
) -> None:
    """The rest of the batch goes on; where there is no rest, the batch is complete and empty."""
    bad, good = tmp_path / "tool.exe", tmp_path / "a.csv"
    bad.write_bytes(b"MZ\x90\0\x03\0")
    good.write_bytes(table(1))
    some = await upload(older, tenant, [bad, good])
    assert (some["total_files"], some["created_sessions"]) == (2, 1)
    none = await upload(older, tenant, [bad, bad])
    assert (none["total_files"], none["created_sessions"], none["session_ids"]) == (2, 0, [])
    for answer in (some, none):
        assert {(one["filename"], one["code"]) for one in answer["skipped_files"]} == {
            ("tool.exe", "unsupported_type")
        }
        assert all("not supported" in one["reason"] for one in answer["skipped_files"])
        await older.stack.finished(answer["batch_id"])
    status = await status_of(older, none["batch_id"], tenant)
    assert (status["total_sessions"], status["is_complete"], status["sessions"]) == (0, True, [])
    status = await status_of(older, some["batch_id"], tenant)
    assert (status["total_sessions"], status["completed"], status["progress_percentage"]) == (1, 1, 100.0)


async def upload(older: Older, company: str, paths: list[Path]) -> dict[str, Any]:
    files = [("files", (path.name, path.read_bytes(), declared_type(path))) for path in paths]
    async with older.stack.http() as http:
        answer: httpx2.Response = await http.post(f"{UPLOAD}?company_id={company}", files=files)
    assert answer.status_code == 200, answer.text
    return answer.json()
