"""The console as a person uses it, in a real browser; skipped where there is none."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tanda.samples import sample_truth
from tests.running import Running

if TYPE_CHECKING:
    from playwright.async_api import Browser, ConsoleMessage, Page, Route

CHROMIUM = Path("/usr/bin/chromium")
#: In a container there is no sandbox to be had; the browser sees our own page only and calls nobody.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
WITHIN_MS = 20_000
HOSTILE = "<img src=x onerror=alert(1)>.csv"


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator["Browser"]:
    playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: "Browser", tanda: Running, request: pytest.FixtureRequest) -> AsyncIterator["Page"]:
    """The console in Spanish or in the test's own language; it must not complain about anything."""
    context = await browser.new_context(locale=getattr(request, "param", "es-ES"))
    context.set_default_timeout(WITHIN_MS)
    page = await context.new_page()
    complaints: list[str] = []

    def heard(message: "ConsoleMessage") -> None:
        # The browser itself notes every answer that is an error; a refused upload is one.
        if message.type in ("error", "warning") and "status of 422" not in message.text:
            complaints.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(f"{dialog.type}: {dialog.message}"))
    await page.goto(tanda.url)
    yield page
    await context.close()
    assert complaints == []


async def test_files_go_in_and_one_json_comes_out(page: "Page", samples: list[Path], tmp_path: Path) -> None:
    """51 files and one with a hostile name: leave to close at the 201, live to the end, reasons, download."""
    hostile = tmp_path / HOSTILE
    hostile.write_text("fecha;importe\n2026-11-02;12,50\n")
    may_go = asyncio.Event()

    async def hold(route: "Route") -> None:
        await may_go.wait()
        await route.continue_()

    await page.route("**/v1/batches", hold)
    async with page.expect_response("**/v1/batches") as answer:
        await page.set_input_files("#picker", [*samples, hostile])
        await page.wait_for_selector("text=no cierres la página todavía")
        may_go.set()
    response = await answer.value
    assert response.status == 201
    await page.wait_for_selector("text=puedes cerrar la página")
    row = page.locator("#" + (await response.json())["id"])
    await row.locator(".toggle").click()
    await row.locator(".download").wait_for()

    truth = {name: fact["status"] for name, fact in sample_truth().items()} | {HOSTILE: "completed"}
    words = {"completed": "completado", "failed": "fallido", "rejected": "rechazado"}
    await row.locator("tr:has(.completed, .failed, .rejected)").nth(51).wait_for()
    cells = await row.locator("tbody").evaluate(
        "body => [...body.rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert {name: state for name, state, _ in cells} == {name: words[truth[name]] for name in truth}
    assert all(reason for _, state, reason in cells if state != "completado")
    assert await row.locator("progress").evaluate("bar => bar.value") == 100
    completed = list(truth.values()).count("completed")
    assert (await row.locator(".counts").inner_text()).startswith(f"{completed} de 52, {52 - completed} ")

    async with page.expect_download() as download:
        await row.locator(".download").click()
    document = json.loads(Path(await (await download.value).path()).read_text())
    assert len(document["archivos_procesados"]) == 52


@pytest.mark.parametrize("page", ["en-GB"], indirect=True)
async def test_a_batch_in_progress_is_there_after_a_reload(tanda: Running, page: "Page") -> None:
    """Begun elsewhere it appears by itself, is there at once after a reload, and goes on live."""
    await page.wait_for_selector("#connection:has-text('Live')")
    async with tanda.http() as http:
        created = (await http.post("/v1/batches", json={"open": True, "name": "elsewhere"})).json()
        url = f"/v1/batches/{created['id']}"
        status = page.locator(f"#{created['id']} .status")
        await status.get_by_text("open", exact=True).wait_for()
        await page.reload()
        await status.get_by_text("open", exact=True).wait_for()
        await http.put(f"{url}/files/a.csv", content=b"a;b\n1;2\n", headers={"Content-Type": "text/csv"})
        await http.post(f"{url}/seal")
    await status.get_by_text("completed", exact=True).wait_for()
    assert await page.locator(f"#{created['id']} .counts").inner_text() == "1 of 1"


async def test_what_is_dropped_is_uploaded_or_its_problem_shown(page: "Page") -> None:
    """A file dropped on the page is a batch; nothing dropped is the API's own sentence."""
    drop = "(names) => { const it = new DataTransfer(); for (const name of names)"
    drop += " it.items.add(new File(['a;b\\n1;2\\n'], name)); return it; }"
    await page.dispatch_event(
        "main", "drop", {"dataTransfer": await page.evaluate_handle(drop, ["dropped.csv"])}
    )
    await page.locator(".batch", has_text="dropped.csv").locator(".status.completed").wait_for()
    await page.dispatch_event("main", "drop", {"dataTransfer": await page.evaluate_handle(drop, [])})
    await page.locator(".upload.failed").get_by_text("A batch needs at least one file.").wait_for()
