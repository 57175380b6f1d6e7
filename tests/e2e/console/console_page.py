"""The console in a browser's tab, as the tests of it use it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page

WITHIN_MS = 20_000
#: The browser itself notes every answer that is an error, and these are asked for on purpose: what a server
#: that is away or a route that is not there yet says.
NOTED = ("Failed to load resource", "net::ERR_")

DROP = """files => { const all = new DataTransfer();
  for (const [name, text] of files) all.items.add(new File([text], name)); return all; }"""


@asynccontextmanager
async def context_of(browser: "Browser", **options: Any) -> AsyncIterator["BrowserContext"]:
    """A visitor of one's own, Spanish unless told otherwise, with nothing kept from an earlier one."""
    context = await browser.new_context(**{"locale": "es-ES"} | options)
    context.set_default_timeout(WITHIN_MS)
    try:
        yield context
    finally:
        await context.close()


async def page_of(context: "BrowserContext", url: str) -> tuple["Page", list[str]]:
    """The console at an address, and what it complains of: which has to stay nothing."""
    page = await context.new_page()
    complaints: list[str] = []

    def heard(message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning") and not any(noted in message.text for noted in NOTED):
            complaints.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto(url)
    await page.wait_for_selector("#connection")
    return page, complaints


async def drop(page: "Page", files: Sequence[tuple[str, str]]) -> None:
    """Drops files onto the window."""
    given = await page.evaluate_handle(DROP, [list(file) for file in files])
    await page.dispatch_event("main", "drop", {"dataTransfer": given})


async def send(page: "Page", files: Sequence[Path]) -> None:
    """Picks files, and sends all of them whatever the check says."""
    await page.set_input_files("#picker", [str(file) for file in files])
    card = page.locator(".upload").first
    await card.and_(page.locator(":not([data-stage=checking])")).wait_for()
    if await card.get_attribute("data-stage") == "review":
        await card.locator("[data-do=all]").click()


async def safe(page: "Page") -> str:
    """Waits until the page may be closed; the batch's id."""
    card = page.locator(".upload[data-stage=safe]").first
    await card.wait_for()
    return await card.get_attribute("data-batch") or ""


async def link(page: "Page", state: str) -> None:
    """Waits until the connection is in that state."""
    await page.wait_for_selector(f"#connection[data-link={state}]")


async def until_seen(page: "Page", script: str, argument: Any = None) -> None:
    """Waits until the page's own answer is true."""
    await page.wait_for_function(script, arg=argument, polling=100)
