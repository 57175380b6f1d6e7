"""003, which moved images away before their results were safe and lost its place when the store failed."""

from typing import Any

from tests.e2e.legacy.conftest import NEVER, OUTSIDE, SOON_S, Older, begin, create, picture

WAITS = "a file waits for a server"


async def test_an_image_stays_in_its_place_until_its_result_is_durable_and_is_archived_right_after(
    older: Older, tenant: str
) -> None:
    """While the provider works it is the current one; with its result it goes, and the next one's turn is."""
    first, second = f"{tenant}-1.png", f"{tenant}-2.png"
    async with older.http(tenant) as http:

        async def told() -> dict[str, Any]:
            return (await http.get("/processing_status")).json()

        async def file_of(batch: dict[str, Any]) -> dict[str, Any]:
            return (await http.get(f"/v1/batches/{batch['id']}/files")).json()["data"][0]

        batches = [await create(http, (name, picture(9)), **OUTSIDE) for name in (first, second)]
        await older.calls(first)
        await older.calls(second)

        async def both_wait() -> bool:
            return (await told())["pending_upload_count"] == 2

        await older.stack.until(both_wait, SOON_S)
        status = await told()
        assert (status["current_image"], status["awaiting_upload"], status["archived_count"]) == (
            first, True, 0,
        )  # fmt: skip
        waiting = await file_of(batches[0])
        assert (waiting["status"], waiting["source"]["state"]) == ("waiting", "stored")
        await older.confirm(first, seen="a cat")

        async def one_archived() -> bool:
            return (await told())["archived_count"] == 1

        await older.stack.until(one_archived, SOON_S)
        assert (await told())["current_image"] == second
        done = await file_of(batches[0])
        assert (done["status"], done["source"]["state"]) == ("completed", "archived")
        assert (await http.get(done["source"]["url"])).content == picture(9)
        kinds = [one["type"].split(".")[1] for one in await older.events(batches[0]["id"])]
        assert kinds.count("SourcesArchived") == 1
        assert kinds.index("FileCompleted") < kinds.index("SourcesArchived")
        assert await older.events(batches[1]["id"], "SourcesArchived") == []
        await older.confirm(second)


async def test_a_failing_store_loses_nothing_and_keeps_the_queues_order(older: Older, tenant: str) -> None:
    """Killed before the first image and kept down: the queue stands, and then goes on where it stood."""
    names = [f"{n}.png" for n in range(5)]
    async with older.http(tenant) as http:
        queue = [(name, picture(n)) for n, name in enumerate(names)]
        batch = (await create(http, *queue, start_at=NEVER))["id"]

        async with older.store_down():
            await begin(http, batch)

            async def stands() -> bool:
                felt = any(line["batch"] == batch for line in older.logged("worker", WAITS))
                return felt and (await http.get("/processing_status")).json()["is_processing"]

            await older.stack.until(stands, SOON_S)
            status = (await http.get("/processing_status")).json()
            assert (status["current_image"], status["archived_count"]) == (names[0], 0)
            refused = await http.post("/v1/batches", files=[("files", ("late.png", picture(99)))])
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        finished = await older.stack.finished(batch, 60)
        assert (finished["status"], finished["counts"]["completed"]) == ("completed", 5)

        async def all_archived() -> bool:
            return (await http.get("/processing_status")).json()["archived_count"] == 5

        await older.stack.until(all_archived, SOON_S)
        files = (await http.get(f"/v1/batches/{batch}/files")).json()["data"]
        assert [(one["name"], one["attempt"]) for one in files] == [(name, 1) for name in names]
        sources = [(await http.get(one["source"]["url"])).content for one in files]
        assert sources == [data for _, data in queue]
        assert (await http.get("/v1/batches")).json()["data"] == [await older.stack.batch(batch)]
    started = [one["fileid"] for one in await older.events(batch, "FileStarted")]
    assert started == [one["id"] for one in files], "in the queue's order, each once"


async def test_force_archive_is_recorded_with_who_and_why(older: Older, tenant: str) -> None:
    """The current image first, then the next; none is lost by it, and with none left there is a 409."""
    reason = "La cámara falló"
    async with older.http(tenant) as http:
        files = [("1.png", picture(1)), ("2.png", picture(2))]
        batch = (await create(http, *files, start_at=NEVER))["id"]
        assert (await http.get("/processing_status")).json()["current_image"] == "1.png", "at once"
        url = "/force_archive_image"
        first = await http.post(url, json={"reason": reason}, headers={"Tanda-Actor": "Ana"})
        second = await http.post(url)
        third = await http.post(url)
        assert [one.status_code for one in (first, second, third)] == [200, 200, 409], third.text
        assert [one.json()["archived_image"] for one in (first, second)] == ["1.png", "2.png"]
        recorded = await older.events(batch, "SourceForceArchived")
        assert [(one["actor"], one["data"]["reason"]) for one in recorded] == [
            ("Ana", reason), ("operator", second.json()["reason"]),
        ]  # fmt: skip
        assert (await http.get("/processing_status")).json()["archived_count"] == 2
        await begin(http, batch)
        assert (await older.stack.finished(batch))["counts"]["completed"] == 2
