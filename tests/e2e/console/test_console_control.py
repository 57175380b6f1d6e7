"""The console's verbs, clicked in a real browser against the real routes; skipped where there is no browser.

A batch that is to begin tomorrow stays where it is, so that nothing here depends on how fast anything is.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.console_page import context_of, link, page_of, safe, until_seen
from tests.running import Running

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

ROWS = "() => [...document.querySelectorAll('[role=table] > .line')].map(row => row.id)"
PASTE = """() => { const all = new DataTransfer();
  all.items.add(new File(["a;b\\n1;2\\n"], "portapapeles.csv", {type: "text/csv"}));
  document.body.dispatchEvent(new ClipboardEvent("paste", {clipboardData: all, bubbles: true})); }"""


@pytest.fixture
async def page(browser: "Browser", tanda: Running) -> AsyncIterator["Page"]:
    """The console in Spanish; it must not complain about anything."""
    async with context_of(browser) as context:
        page, complaints = await page_of(context, tanda.url)
        yield page
    assert complaints == []


async def scheduled(tanda: Running, name: str, *, start: bool = False) -> str:
    """A batch of one CSV file for tomorrow, or for now; its id."""
    parts = [("files", ("a.csv", b"a;b\n1;2\n", "text/csv"))]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    data = {"name": name} | ({} if start else {"start_at": tomorrow})
    async with tanda.http() as http:
        response = await http.post("/v1/batches", files=parts, data=data)
    assert response.status_code == 201, response.text
    return response.json()["id"]


async def status(tanda: Running, batch: str) -> str:
    return ((await tanda.batch(batch)) or {})["status"]


async def test_a_batch_is_paused_resumed_cancelled_and_retried(page: "Page", tanda: Running) -> None:
    """Each verb is a click, and what it did is seen on the page and told by the server."""
    batch = await scheduled(tanda, "mandos")
    await page.goto(f"{tanda.url}/#/batches/{batch}")
    await page.locator("[data-reason=scheduled]").wait_for()
    await page.get_by_role("button", name="Pausar").click()
    await page.locator("header [data-status=paused]").wait_for()
    assert await status(tanda, batch) == "paused"
    await page.get_by_role("button", name="Reanudar").click()
    await page.locator("header [data-status=queued]").wait_for()
    await page.get_by_role("button", name="Cancelar").click()
    await page.get_by_role("button", name="Deshacer").click()
    await page.get_by_text("No se canceló.").wait_for()
    assert await status(tanda, batch) == "queued"
    await page.get_by_role("button", name="Cancelar").click()
    await page.get_by_text("mandos se va a cancelar").wait_for()
    await page.locator("header [data-status=cancelled]").wait_for()
    await page.locator("header").get_by_role("button", name="Reintentar").click()
    await page.get_by_text("Se reintenta 1 archivo.").wait_for()
    await page.locator("header [data-status=cancelled]").wait_for(state="detached")
    assert await status(tanda, batch) in ("queued", "processing")


async def test_what_failed_of_one_cause_is_retried_together(page: "Page", tanda: Running) -> None:
    """The causes say how many, one click asks for those, and each has a second attempt."""
    broken = [("files", (f"{at}.xml", b"<a><b></a>", "text/xml")) for at in range(3)]
    whole = ("files", ("c.csv", b"a;b\n1;2\n", "text/csv"))
    async with tanda.http() as http:
        batch = (await http.post("/v1/batches", files=[*broken, whole])).json()["id"]
    await tanda.finished(batch)
    await page.goto(f"{tanda.url}/#/batches/{batch}")
    cause = page.locator("#causes ~ ul li", has_text="XML roto")
    await cause.get_by_role("button", name="Reintentar estos 3").click()
    await page.get_by_text("Se reintentan 3 archivos.").wait_for()
    await page.locator("[data-file]", has_text="Intento 2").nth(2).wait_for()
    async with tanda.http() as http:
        files = (await http.get(f"/v1/batches/{batch}/files")).json()["data"]
    assert {file["name"]: file["attempt"] for file in files} == {
        "0.xml": 2,
        "1.xml": 2,
        "2.xml": 2,
        "c.csv": 1,
    }


async def test_a_bulk_action_says_how_many_before_it_happens(page: "Page", tanda: Running) -> None:
    """Three are chosen, two can be paused; nothing has happened until it is confirmed."""
    name = token_hex(4)
    able = [await scheduled(tanda, f"{name} {n}") for n in range(2)]
    done = await scheduled(tanda, f"{name} hecho", start=True)
    await tanda.finished(done)
    await page.goto(f"{tanda.url}/#/batches?q={name}")
    await page.locator(f"#{done} [data-status=completed]").wait_for()
    await page.get_by_label("Elegir todos los visibles").check()
    await page.get_by_role("toolbar").get_by_role("button", name="Pausar").click()
    dialog = page.locator("dialog[open]")
    await dialog.get_by_role("heading", name="¿Pausar 2 lotes?").wait_for()
    await dialog.get_by_text("1 de los elegidos está en un estado que no lo permite.").wait_for()
    assert [await status(tanda, batch) for batch in able] == ["queued", "queued"]
    await dialog.get_by_role("button", name="Pausar").click()
    for batch in able:
        await page.locator(f"#{batch} [data-status=paused]").wait_for()
    assert [await status(tanda, batch) for batch in (*able, done)] == ["paused", "paused", "completed"]


async def test_new_batches_wait_behind_a_pill(page: "Page", tanda: Running) -> None:
    """No row jumps away under the pointer: three new ones are counted, and shown when asked for."""
    name = token_hex(4)
    first = await scheduled(tanda, f"{name} viejo")
    await page.goto(f"{tanda.url}/#/batches?q={name}")
    await page.locator(f"#{first}").wait_for()
    await link(page, "live")
    new = [await scheduled(tanda, f"{name} {n}") for n in range(3)]
    await page.locator(".fresh", has_text="3 lotes nuevos").wait_for()
    assert await page.evaluate(ROWS) == [first]
    await page.locator(".fresh").click()
    assert await page.evaluate(ROWS) == [*reversed(new), first]


async def test_a_dropped_folder_is_sent_with_all_that_is_in_it(
    page: "Page", tanda: Running, tmp_path: Path
) -> None:
    """Its name is the batch's, and folders within folders are looked into."""
    folder = tmp_path / "noviembre"
    (folder / "dentro").mkdir(parents=True)
    for at, place in enumerate((folder, folder, folder / "dentro")):
        (place / f"{at}.csv").write_text(f"a;b\n{at};2\n")
    client = await page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        await client.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 300, "data": data})
    batch = await tanda.batch(await safe(page))
    assert batch and batch["name"] == "noviembre" and batch["counts"]["total"] == 3


async def test_a_pasted_file_is_sent(page: "Page", tanda: Running) -> None:
    """From any screen; one file names its batch."""
    await page.goto(f"{tanda.url}/#/batches")
    await page.evaluate(PASTE)
    batch = await tanda.batch(await safe(page))
    assert batch and batch["name"] == "portapapeles.csv"


async def test_language_and_theme_are_kept(page: "Page") -> None:
    """Switched by their buttons, and the same after a reload."""
    before = await page.evaluate("document.documentElement.dataset.theme")
    await page.get_by_role("button", name="EN: Switch to English").click()
    await page.locator("h1", has_text="Drop files").wait_for()
    await page.get_by_role("button", name="Light or dark").click()
    await until_seen(page, "before => document.documentElement.dataset.theme !== before", before)
    await page.reload()
    await page.locator("h1", has_text="Drop files").wait_for()
    assert await page.evaluate("document.documentElement.lang") == "en"
    assert await page.evaluate("document.documentElement.dataset.theme") != before


async def test_another_tenants_batch_is_followed_live(page: "Page", tanda: Running) -> None:
    """Without keys the caller is the operator: any batch is seen by its address, and as it goes on."""
    async with tanda.http() as http:
        opened = {"open": True, "name": "de otra casa"}
        created = (await http.post("/v1/batches", json=opened, headers={"Tanda-Tenant": "otra"})).json()
        url = f"/v1/batches/{created['id']}"
        await page.goto(f"{tanda.url}/#/batches/{created['id']}")
        await page.locator("h1", has_text="de otra casa").wait_for()
        await link(page, "live")
        await http.put(f"{url}/files/a.csv", content=b"a;b\n1;2\n", headers={"Content-Type": "text/csv"})
        await http.post(f"{url}/seal")
        await page.locator("[data-file] [data-status=completed]").wait_for()
        (file,) = (await http.get(f"{url}/files")).json()["data"]
        await page.goto(f"{tanda.url}/#/batches/{created['id']}/files/{file['id']}")
        await page.locator("h1", has_text="a.csv").wait_for()
        await http.post(f"{url}/retry", json={"file_ids": [file["id"]]})
        await page.locator(".attempt", has_text="Intento 2").wait_for()
