"""000, whose page lost its images at a reload and whose batches had two ids."""

import json

import httpx2

from tests.e2e.legacy.conftest import OUTSIDE, SOON_S, Older, create, parts, picture, table


async def test_a_reload_shows_finished_batches_with_their_images_at_once_and_running_ones_go_on(
    older: Older, tenant: str
) -> None:
    """The first answer after a reload is the last one before it; nothing is asked for again."""
    slow = f"{tenant}.csv"
    async with older.http(tenant) as page:
        done = (await create(page, ("uno.png", picture(1)), ("dos.png", picture(2))))["id"]
        runs = (await create(page, (slow, table(1)), **OUTSIDE))["id"]
        await older.stack.finished(done)
        await older.calls(slow)
        before = (await page.get(f"/batch-status/{done}")).json()
    async with older.http(tenant) as page:
        reloaded = (await page.get(f"/batch-status/{done}")).json()
        assert reloaded == before
        assert (reloaded["status"], reloaded["completed_workflows"]) == ("completed", 2)
        assert [one["name"] for one in reloaded["results"]] == ["uno.png", "dos.png"]
        assert reloaded["image_urls"] == [one["url"] for one in reloaded["all_images"]]
        assert len(reloaded["image_urls"]) == 2, "one image of each workflow"
        for url in reloaded["image_urls"]:
            image = await page.get(url)
            assert image.headers["content-type"] == "image/webp" and image.content[8:12] == b"WEBP"
        running = (await page.get(f"/batch-status/{runs}")).json()
        assert (running["status"], running["total_workflows"], running["completed_workflows"]) == (
            "processing", 1, 0,
        )  # fmt: skip
        await older.confirm(slow, seed=7)

        async def is_done() -> bool:
            return (await page.get(f"/batch-status/{runs}")).json()["status"] == "completed"

        await older.stack.until(is_done, SOON_S)


async def test_one_id_for_a_batch_everywhere(older: Older, tenant: str) -> None:
    """Every system's route, the stream, the document, its file name and the log know it by the same one."""
    async with older.http(tenant) as http:
        upload = "/universal-invoice/sessions/batch-upload/"
        answer = await http.post(f"{upload}?company_id={tenant}", files=parts(("a.csv", table(1))))
        batch_id = answer.json()["batch_id"]
        await older.stack.finished(batch_id)
        workflows = (await http.get(f"/batch-status/{batch_id}")).json()
        sessions = (await http.get(f"/universal-invoice/sessions/batch-status/{batch_id}")).json()
        clips = (await http.get(f"/api/metricool/batch/{batch_id}")).json()
        results = await http.get(f"/download_batch_results/{batch_id}")
        live = await first_message(http, f"/api/metricool/batch/{batch_id}/events")
    assert {
        workflows["batch_id"],
        workflows["batch_tracking_id"],
        sessions["batch_id"],
        clips["batch"]["batchId"],
        live["batchId"],
        results.json()["metadata"]["lote_id"],
        results.json()["archivos_procesados"][0]["lote_id"],
        *(one["batchid"] for one in await older.events(batch_id)),
    } == {batch_id}
    assert f'filename="{batch_id}_resultados.json"' in results.headers["content-disposition"]


async def first_message(http: httpx2.AsyncClient, url: str) -> dict[str, str]:
    async with http.stream("GET", url) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                return json.loads(line[6:])
    raise AssertionError("the stream ended without a message")
