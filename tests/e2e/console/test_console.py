"""The console as a person uses it, in a real browser; skipped where there is none."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tanda.samples import sample_truth
from tests.e2e.console.console_page import context_of, drop, link, page_of, safe, send, until_seen
from tests.running import Running, post_batch

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, Response, Route

HOSTILE = "<img src=x onerror=alert(1)>.csv"
#: A folder for pictures of every screen, for the pages of ``docs``.
SCREENSHOTS = os.environ.get("TANDA_TEST_SCREENSHOTS")
FIRST_LOAD_BYTES_MAX = 30_000


@pytest.fixture
async def page(browser: "Browser", tanda: Running, request: pytest.FixtureRequest) -> AsyncIterator["Page"]:
    """The console in Spanish or in the test's own language; it must not complain about anything."""
    async with context_of(browser, locale=getattr(request, "param", "es-ES")) as context:
        page, complaints = await page_of(context, tanda.url)
        page.on("dialog", lambda dialog: complaints.append(f"{dialog.type}: {dialog.message}"))
        yield page
    assert complaints == []


@pytest.fixture(scope="module")
async def batch_id(tanda: Running, samples: list[Path]) -> str:
    """A finished batch of the 51 samples."""
    async with tanda.http() as http:
        created = (await post_batch(http, samples, name="noviembre", tags="muestra")).json()
    return (await tanda.finished(created["id"]))["id"]


async def test_files_go_in_and_one_json_comes_out(page: "Page", samples: list[Path], tmp_path: Path) -> None:
    """51 files and one with a hostile name: leave to close at the seal, live to the end, the download."""
    hostile = tmp_path / HOSTILE
    hostile.write_text("fecha;importe\n2026-11-02;12,50\n")
    may_go = asyncio.Event()

    async def hold(route: "Route") -> None:
        await may_go.wait()
        await route.continue_()

    await page.route("**/seal", hold)
    await send(page, [*samples, hostile])
    await page.get_by_text("Deja esta página abierta").wait_for()
    assert not await page.get_by_text("Ya puedes cerrar esta página").is_visible()
    may_go.set()
    batch = await safe(page)
    await page.goto(f"{page.url.split('#')[0]}#/batches/{batch}")
    await page.locator(".download").wait_for()

    truth = {name: fact["status"] for name, fact in sample_truth().items()} | {HOSTILE: "completed"}
    rows = await page.evaluate(
        "async id => (await (await fetch(`/v1/batches/${id}/files?limit=200`)).json()).data", batch
    )
    assert {row["name"]: row["status"] for row in rows} == truth
    completed = list(truth.values()).count("completed")
    assert await page.locator("[data-chip=completed] strong").inner_text() == str(completed)
    # One click shows only the rejected, each with its reason.
    await page.locator("[data-chip=rejected]").click()
    rejected = list(truth.values()).count("rejected")
    await until_seen(page, "n => document.querySelectorAll('[data-file]').length === n", rejected)
    reasons = await page.locator("[data-file] .why").all_inner_texts()
    assert all(reasons) and len(reasons) == rejected

    async with page.expect_download() as download:
        await page.locator(".download").click()
    document = json.loads(Path(await (await download.value).path()).read_text())
    assert len(document["archivos_procesados"]) == 52


@pytest.mark.parametrize("page", ["en-GB"], indirect=True)
async def test_a_batch_in_progress_is_there_after_a_reload(tanda: Running, page: "Page") -> None:
    """Begun elsewhere it appears in the dock by itself, is there after a reload, and says when it is done."""
    await link(page, "live")
    async with tanda.http() as http:
        created = (await http.post("/v1/batches", json={"open": True, "name": "elsewhere"})).json()
        url = f"/v1/batches/{created['id']}"
        await page.locator(".dock", has_text="elsewhere").wait_for()
        await page.reload()
        await page.locator(".dock", has_text="elsewhere").wait_for()
        await page.goto(f"{tanda.url}/#/batches")
        await page.locator(f"#{created['id']} [data-status=open]").wait_for()
        await http.put(f"{url}/files/a.csv", content=b"a;b\n1;2\n", headers={"Content-Type": "text/csv"})
        await http.post(f"{url}/seal")
    await page.locator(f"#{created['id']} [data-status=completed]").wait_for()
    await page.locator(".toast", has_text="1 of 1 files processed").wait_for()
    assert "1 / 1" in await page.locator(f"#{created['id']} .counts").inner_text()


async def test_what_is_dropped_is_checked_before_it_is_sent(page: "Page") -> None:
    """A lie, an empty file and a copy are named with their reasons; the rest is sent, from any screen."""
    await page.goto(page.url.split("#")[0] + "#/system")
    files = [("a.csv", "a;b\n1;2\n"), ("b.pdf", "hello"), ("c.xml", ""), ("copy.csv", "a;b\n1;2\n")]
    await drop(page, files)
    card = page.locator(".upload[data-stage=review]")
    await card.wait_for()
    reasons = await card.locator("[data-state=left_out] .why").all_inner_texts()
    assert reasons == [
        "Su contenido no es lo que dice su nombre.", "El archivo está vacío.", "Los mismos bytes que a.csv.",
    ]  # fmt: skip
    await card.locator(".button.primary").click()
    batch = await safe(page)
    assert (await page.evaluate("id => fetch(`/v1/batches/${id}`).then(r => r.json())", batch))["counts"][
        "total"
    ] == 1


async def test_the_keyboard_goes_everywhere(page: "Page", batch_id: str) -> None:
    """The palette finds a batch by its name; letters go to screens, switch the language and the theme."""
    assert batch_id
    await link(page, "live")
    await page.keyboard.press("Control+k")
    await page.locator("[role=combobox]").fill("noviem")
    await page.locator("[role=option]", has_text="noviembre").first.wait_for()
    await page.keyboard.press("Enter")
    await page.locator("h1", has_text="noviembre").wait_for()
    await page.keyboard.press("g")
    await page.keyboard.press("b")
    await page.locator("h1", has_text="Historial de Lotes").wait_for()
    await page.keyboard.press("l")
    await page.locator("h1", has_text="Batches").wait_for()
    before = await page.evaluate("document.documentElement.dataset.theme")
    await page.keyboard.press("t")
    assert await page.evaluate("document.documentElement.dataset.theme") != before
    await page.keyboard.press("?")
    await page.locator("dialog[open]", has_text="Keyboard shortcuts").wait_for()


async def test_filters_are_in_the_address(page: "Page", batch_id: str) -> None:
    """What is looked for survives a reload, and a word that fits nothing says so."""
    root = page.url.split("#")[0]
    await page.goto(f"{root}#/batches?tag=muestra&q=NOVIEM")
    await page.locator(f"#{batch_id}").wait_for()
    await page.locator("input[type=search]").fill("nada de nada")
    await page.get_by_text("Ningún lote coincide").wait_for()
    await page.reload()
    await page.get_by_text("Ningún lote coincide").wait_for()
    assert "q=nada" in page.url


async def test_the_first_load_is_small(browser: "Browser", tanda: Running) -> None:
    """What a first visit fetches of code, compressed."""
    fetched: list[int] = []

    async def heard(response: "Response") -> None:
        if response.url.endswith(".js"):
            fetched.append(int(response.headers["content-length"]))

    async with context_of(browser) as context:
        context.on("response", heard)
        page, _ = await page_of(context, tanda.url)
        await link(page, "live")
    assert sum(fetched) <= FIRST_LOAD_BYTES_MAX, sorted(fetched)


@pytest.mark.parametrize("theme", ["light", "dark"])
async def test_every_screen_is_for_everybody(
    browser: "Browser", tanda: Running, batch_id: str, axe: str, theme: str
) -> None:
    """axe finds nothing on any screen, and none is wider than a phone, in both themes and languages."""
    async with tanda.http() as http:
        files = (await http.get(f"/v1/batches/{batch_id}/files?limit=200")).json()["data"]
    invoice = next(one["id"] for one in files if one["result_url"] and one["name"].endswith(".xml"))
    failed = next(one["id"] for one in files if one["error"])
    pdf = next(one["id"] for one in files if one["artifacts"] and one["name"].endswith(".pdf"))
    screens = {
        "home": ("#/", "#picker"),
        "batches": ("#/batches", f"#{batch_id} .download"),
        "batch": (f"#/batches/{batch_id}", "[data-file]"),
        "gallery": ("#/gallery", ".tile img"),
        "file": (f"#/batches/{batch_id}/files/{invoice}", ".totals"),
        "failed": (f"#/batches/{batch_id}/files/{failed}", ".result .bad"),
        "pdf": (f"#/batches/{batch_id}/files/{pdf}", ".pages img"),
        "system": ("#/system", "#quarantine"),
        "nothing": ("#/nothing", ".empty"),
    }
    locale = "es-ES" if theme == "light" else "en-GB"
    size = {"width": 1280, "height": 900}
    async with context_of(
        browser, locale=locale, color_scheme=theme, viewport=size, reduced_motion="reduce"
    ) as context:
        page, complaints = await page_of(context, tanda.url)
        await page.evaluate(axe)
        await link(page, "live")
        for name, (place, sign) in screens.items():
            await page.set_viewport_size(size)
            await page.goto(f"{tanda.url}/{place}")
            await page.locator(sign).first.wait_for()
            if SCREENSHOTS and name not in ("failed", "pdf", "nothing"):
                await page.screenshot(path=Path(SCREENSHOTS) / f"console-{name}-{locale[:2]}-{theme}.png")
            found = await page.evaluate(
                "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations)"
            )
            assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == [], name
            await page.set_viewport_size({"width": 360, "height": 740})
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= 360, f"{name} is {wide} wide"
    assert complaints == []


async def test_a_pdf_is_seen_beside_its_result(page: "Page", batch_id: str) -> None:
    """Its first page as it looks, its words on request, and nothing that a browser would run."""
    files = f"/v1/batches/{batch_id}/files?q=.pdf&status=completed"
    rows = await page.evaluate("url => fetch(url).then(r => r.json()).then(r => r.data)", files)
    drawn = next(row for row in rows if row["artifacts"])
    await page.goto(f"{page.url.split('#')[0]}#/batches/{batch_id}/files/{drawn['id']}")
    await until_seen(page, "() => document.querySelector('.source .pages img')?.naturalWidth > 600")
    # Whole: the box that it is in is as high as the page.
    await until_seen(
        page,
        "() => { const page = document.querySelector('.source .pages img'); return"
        " page.parentElement.offsetHeight >= page.offsetHeight && page.offsetHeight > page.offsetWidth; }",
    )
    assert await page.locator("iframe, embed, object").count() == 0
    await page.get_by_role("button", name="Texto").click()
    await page.locator(".source .page").wait_for()
    assert await page.locator(".source .page").inner_text() != ""
    assert await page.locator(".source .pages").count() == 0
