"""The console where things break: pages reloaded, gateways killed, networks gone, many tabs, many files."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.console_page import context_of, drop, link, page_of, safe, send, until_seen
from tests.running import Running, running

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Route

FILES = 10_000
TABS = 8
SETTLED = """([id, n]) => { const row = document.getElementById(id)?.querySelector('.counts');
  return row && row.textContent.replace(/\\D/g, '').startsWith(`${n}${n}`); }"""

#: Whether the page's last known state has that batch; it is kept once a second.
STATE_KEPT = """id => new Promise(resolve => { indexedDB.open("tanda").onsuccess = ({target}) => {
  target.result.transaction("reads").objectStore("reads").get("state").onsuccess = ({target: {result}}) =>
    resolve(result?.body.batches.some(batch => batch.id === id && batch.status === "completed")); }; })"""
#: The paths of all that the browser keeps of the page.
KEPT = """async () => (await Promise.all((await caches.keys()).map(async name =>
  (await (await caches.open(name)).keys()).map(one => new URL(one.url).pathname)))).flat()"""


@pytest.fixture(scope="module")
async def tanda(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """A stack of this module's own, since its gateway is killed."""
    folder = tmp_path_factory.mktemp("tanda")
    folder.chmod(0o711)
    async with running(folder / "data") as stack:
        yield stack


async def _many(tanda: Running, files: int, name: str) -> str:
    """A batch of that many small files; its id."""
    parts = [("files", (f"{index:05}.csv", b"a;b\n%d;2\n" % index, "text/csv")) for index in range(files)]
    async with tanda.http() as http:
        data = {"name": name, "processor": "noop"}
        return (await http.post("/v1/batches", files=parts, data=data, timeout=120)).json()["id"]


async def test_what_a_reload_interrupted_goes_on_when_it_is_dropped_again(
    browser: "Browser", tanda: Running, samples: list[Path]
) -> None:
    """39 of 51 are there, the page is reloaded, and the 12 that are missing are known by their content."""
    sent = 0

    async def cut(route: "Route") -> None:
        nonlocal sent
        sent += route.request.method == "PUT"
        if sent <= 39 or route.request.method != "PUT":
            await route.continue_()  # the others stay under way for ever

    async with context_of(browser) as context:
        page, complaints = await page_of(context, tanda.url)
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.route(re.compile(r"/files/"), cut)
        await send(page, samples)
        await until_seen(page, "() => document.querySelector('.upload')?.textContent.includes('39 / 51')")
        batch = await page.locator(".upload").get_attribute("data-batch")
        await page.reload()
        await page.unroute_all(behavior="ignoreErrors")
        card = page.locator(f".upload[data-batch={batch}]")
        await card.get_by_text("Faltan 12 de 51").wait_for()
        await page.set_input_files("#picker", [str(path) for path in samples])
        assert await safe(page) == batch
        assert await page.locator(".upload").count() == 1
        done = await tanda.finished(str(batch))
        assert done["counts"]["total"] == 51
        assert complaints == []


async def test_a_gateway_that_dies_in_the_middle_costs_no_count(browser: "Browser", tanda: Running) -> None:
    """Killed and started again under a running batch, the page reconnects and ends at every file once."""
    async with context_of(browser) as context:
        before = await _many(tanda, 1, "antes")  # into an empty list a new batch comes unasked
        page, complaints = await page_of(context, f"{tanda.url}/#/batches")
        await page.locator(f"#{before}").wait_for()
        await link(page, "live")
        batch = await _many(tanda, 1_500, "matado")
        await page.locator(".fresh").click()
        await page.locator(f"#{batch}").wait_for()
        tanda.kill("gateway")
        await page.wait_for_selector("#connection:not([data-link=live])")
        await link(page, "live")
        await tanda.finished(batch)
        # No reload and no reading again: what the events that came made of the row.
        await until_seen(page, SETTLED, [batch, 1500])
        await page.locator(f"#{batch} [data-status=completed]").wait_for()
        assert complaints == []


async def test_an_upload_outlasts_a_gateway_that_dies(
    browser: "Browser", tanda: Running, samples: list[Path]
) -> None:
    """Killed in mid-upload, the page waits for it and goes on by itself, to the last file."""
    killed = False

    async def kill(route: "Route") -> None:
        nonlocal killed
        if not killed and "index=20" in route.request.url:
            killed = True
            tanda.kill("gateway")
        await route.continue_()

    async with context_of(browser) as context:
        page, complaints = await page_of(context, tanda.url)
        await page.route(re.compile(r"/files/"), kill)
        await send(page, samples)
        batch = await safe(page)
        assert killed
        assert (await tanda.finished(batch))["counts"]["total"] == 51
        assert complaints == []


async def test_eight_tabs_share_one_connection(browser: "Browser", tanda: Running) -> None:
    """All of them are live, the gateway has one client, and when its tab is closed another takes over."""
    async with context_of(browser) as context:
        pages = [(await page_of(context, f"{tanda.url}/#/batches"))[0] for _ in range(TABS)]
        for page in pages:
            await link(page, "live")
        await tanda.until(lambda: _one_client(tanda), 20)
        leads = [page for page in pages if await page.locator("#connection[data-leads=true]").count()]
        assert len(leads) == 1
        await leads[0].close()
        rest = [page for page in pages if page is not leads[0]]
        await _one_leads(tanda, rest)
        batch = await _many(tanda, 3, "para todos")
        for page in rest:
            await page.locator(f"#{batch} [data-status=completed], .fresh").first.wait_for()
        await tanda.until(lambda: _one_client(tanda), 20)


async def _one_client(tanda: Running) -> bool:
    async with tanda.http() as http:
        text = (await http.get("/metrics")).text
    match = re.search(r"^tanda_gateway_live_clients (\d+)", text, re.MULTILINE)
    assert match
    return match[1] == "1"


async def _one_leads(tanda: Running, pages: "list[Page]") -> None:
    async def leads() -> bool:
        return sum([await page.locator("#connection[data-leads=true]").count() for page in pages]) == 1

    await tanda.until(leads, 20)
    for page in pages:
        await link(page, "live")


async def test_without_a_network_the_last_known_state_stays(browser: "Browser", tanda: Running) -> None:
    """Offline it says since when, screens still open with what was known, and it goes on when it is back."""
    before = await _many(tanda, 2, "antes")
    await tanda.finished(before)
    async with context_of(browser) as context:
        page, _ = await page_of(context, f"{tanda.url}/#/batches/{before}")
        await page.locator("[data-file]").first.wait_for()
        await page.goto(f"{tanda.url}/#/batches")
        await page.locator(f"#{before}").wait_for()
        await link(page, "live")
        await context.set_offline(True)
        await link(page, "offline")
        assert "datos de" in await page.locator("#connection").inner_text()
        await page.locator(f"#{before} a.cut").first.click()
        await page.locator("[data-file]").first.wait_for()
        await page.get_by_text("Nadie responde: esto es lo que se sabía").first.wait_for()
        after = await _many(tanda, 2, "después")
        await context.set_offline(False)
        await link(page, "live")
        await page.goto(f"{tanda.url}/#/batches")
        await page.locator(f"#{after} [data-status=completed]").wait_for()


async def test_a_reload_without_a_gateway_shows_what_was_known(browser: "Browser", tanda: Running) -> None:
    """The page itself comes from the browser's cache, the rows with their time; then it goes on live."""
    known = await _many(tanda, 2, "conocido")
    await tanda.finished(known)
    async with context_of(browser) as context:
        page, complaints = await page_of(context, f"{tanda.url}/#/batches")
        await page.locator(f"#{known} [data-status=completed]").wait_for()
        await page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        with tanda.away("gateway"):
            await page.reload()
            await page.locator(f"#{known} [data-status=completed]").wait_for()
            await link(page, "offline")
            await page.locator("#connection", has_text="datos de").wait_for()
            # A screen that had never been opened is there too, with what it has: its own words.
            await page.goto(f"{tanda.url}/#/system")
            await page.locator("h1", has_text="Sistema").wait_for()
            await page.goto(f"{tanda.url}/#/batches")
        await link(page, "live")
        after = await _many(tanda, 1, "después")
        await page.locator(".fresh").click()
        await page.locator(f"#{after} [data-status=completed]").wait_for()
        kept = await page.evaluate(KEPT)
        assert "/" in kept
        assert not [path for path in kept if path != "/" and not path.startswith("/console/")]
        assert complaints == []


async def test_what_a_reload_interrupted_of_thousands_is_counted_too(
    browser: "Browser", tanda: Running
) -> None:
    """Small files go two hundred at a time; those that are there after a reload are not sent again."""
    files = [(f"{index:04}.csv", f"a;b\n{index};2\n") for index in range(2_000)]
    rows = 0

    async def cut(route: "Route") -> None:
        nonlocal rows
        rows += 1
        if rows <= 3:
            await route.continue_()  # the others stay under way for ever

    async with context_of(browser) as context:
        page, complaints = await page_of(context, tanda.url)
        page.on("dialog", lambda dialog: asyncio.ensure_future(dialog.accept()))
        await page.route(re.compile(r"/files\?index="), cut)
        await drop(page, files)
        await until_seen(page, "() => document.querySelector('.upload')?.textContent.includes('600 / 2000')")
        batch = await page.locator(".upload").get_attribute("data-batch")
        await page.reload()
        await page.unroute_all(behavior="ignoreErrors")
        await page.locator(f".upload[data-batch={batch}]").get_by_text("Faltan 1400 de 2000").wait_for()
        sent: list[str] = []
        page.on("request", lambda one: sent.append(one.url) if "/files?index=" in one.url else None)
        await drop(page, files)
        assert await safe(page) == batch
        assert await page.locator(".upload").count() == 1
        assert len(sent) == 7
        assert ((await tanda.batch(batch)) or {})["counts"]["total"] == 2_000
        assert complaints == []


async def test_one_upload_can_be_cancelled_and_tried_again(browser: "Browser", tanda: Running) -> None:
    """A file that is refused waits for a decision; tried again it is sent, and the batch is whole."""
    refused = 0

    async def refuse(route: "Route") -> None:
        nonlocal refused
        refused += 1
        body = '{"title": "No.", "status": 413, "detail": "Too large today.", "code": "file_too_large"}'
        await route.fulfill(status=413, body=body, content_type="application/problem+json")

    async with context_of(browser) as context:
        page, _ = await page_of(context, tanda.url)
        await page.route(re.compile(r"/files/b\.csv"), refuse)
        await drop(page, [("a.csv", "a;b\n1;2\n"), ("b.csv", "a;b\n3;4\n")])
        card = page.locator(".upload[data-stage=stuck]")
        await card.get_by_text("Too large today.").wait_for()
        await page.unroute(re.compile(r"/files/b\.csv"))
        await card.locator(".button.primary").click()
        batch = await safe(page)
        assert refused == 1
        assert (await tanda.finished(batch))["counts"]["completed"] == 2


async def test_a_cancel_can_be_taken_back_for_a_moment(browser: "Browser", tanda: Running) -> None:
    """Undone nothing has happened; leaving the page instead is no second thought."""
    async with tanda.http() as http:
        batch = (await http.post("/v1/batches", json={"open": True, "name": "duda"})).json()["id"]

    async def cancelled() -> bool:
        return ((await tanda.batch(batch)) or {}).get("status") == "cancelled"

    async with context_of(browser) as context:
        page, _ = await page_of(context, f"{tanda.url}/#/batches/{batch}")
        await page.get_by_role("button", name="Cancelar").click()
        await page.get_by_role("button", name="Deshacer").click()
        await page.get_by_text("No se canceló.").wait_for()
        assert ((await tanda.batch(batch)) or {})["status"] == "open"
        await page.get_by_role("button", name="Cancelar").click()
        await page.get_by_text("se va a cancelar").wait_for()
        await page.close(run_before_unload=True)  # the browser stays, as a user's does
        await tanda.until(cancelled, 20)


async def test_ten_thousand_files_are_a_screenful_at_a_time(browser: "Browser", tanda: Running) -> None:
    """All of them can be scrolled and searched while they are worked on; the page holds some dozens."""
    async with context_of(browser) as context:
        page, complaints = await page_of(context, f"{tanda.url}/#/batches")
        batch = await _many(tanda, FILES, "diez mil")
        await page.goto(f"{tanda.url}/#/batches/{batch}")
        await until_seen(page, "() => document.querySelector('[role=table]')?.ariaRowCount === '10001'")
        await page.locator("[role=table] .box").evaluate("box => box.scrollTo(0, box.scrollHeight)")
        await page.locator("[data-file]", has_text="09999.csv").wait_for()
        assert await page.locator("[data-file]").count() < 80
        await page.locator("main input[type=search]").fill("0777")
        await until_seen(page, "() => document.querySelectorAll('[data-file]').length === 11")
        await page.locator("[data-chip=completed][aria-pressed=false]").click()
        await page.locator("[data-file] [data-status=completed]").first.wait_for()
        assert complaints == []
