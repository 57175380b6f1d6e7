"""The console over an upgrade of its gateway: the new page is seen, and nothing old is served for it."""

import re
import shutil
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.console.console_page import context_of, link, page_of, until_seen
from tests.house.sources import ROOT
from tests.running import Running, running

if TYPE_CHECKING:
    from playwright.async_api import Browser

#: The digests in the names of a build's files, and that of the whole in its service worker.
_DIGESTED = re.compile(r"(?<=-)[\w-]{8}(?=\.(?:js|css)\b)|(?<=BUILD=[\"'`])\w{8}")
RESTART_S_MAX = 60.0
#: All that the browser keeps of the page, by its path.
KEPT = """async () => (await Promise.all((await caches.keys()).map(async name =>
  (await (await caches.open(name)).keys()).map(one => new URL(one.url).pathname)))).flat().sort()"""
#: Every part of the page that this tab has loaded.
LOADED = "performance.getEntriesByType('resource').map(one => new URL(one.name).pathname)"
HAS = "async names => (await Promise.all(names.map(one => caches.match(one)))).every(Boolean)"
HAS_NONE = "async names => !(await Promise.all(names.map(one => caches.match(one)))).some(Boolean)"
PRIORITY = """id => fetch(`/v1/batches/${id}`).then(async r => (await r.json()).priority, () => "nobody")"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the services, whose console a test replaces."""
    folder = tmp_path_factory.mktemp("code")
    for name in ("tanda", "services"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
async def tanda(
    browser: "Browser", code: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Running]:
    """A stack that runs that copy: its gateway loads the console anew whenever it is started."""
    folder = tmp_path_factory.mktemp("tanda")
    folder.chmod(0o711)
    env = {"PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    async with running(folder / "data", env=env) as stack:
        yield stack


@pytest.fixture
def build(code: Path) -> Iterator[Path]:
    """The console that the next gateway serves; afterwards it is the shipped one again."""
    folder = code / "services" / "gateway" / "static"
    yield folder
    shutil.rmtree(folder)
    shutil.copytree(ROOT / "services" / "gateway" / "static", folder)


def _rebuild(folder: Path, title: str) -> set[str]:
    """Makes another build of it: other words, and so other digests in every name; the names."""

    def another(match: re.Match[str]) -> str:
        return sha256(f"{match[0]} {title}".encode()).hexdigest()[:8]

    for path in [*folder.glob("*.js"), *folder.glob("*.css"), folder / "index.html"]:
        text = _DIGESTED.sub(another, path.read_text()).replace("Historial de Lotes", title)
        path.unlink()
        (folder / _DIGESTED.sub(another, path.name)).write_text(text)
    return _names(folder)


def _names(folder: Path) -> set[str]:
    """The paths of what never changes."""
    return {f"/console/{path.name}" for path in folder.glob("*-*.*")}


async def _upgraded(tanda: Running) -> None:
    """Another gateway in the place of this one."""
    gone = tanda.kill("gateway")
    await tanda.until(
        lambda: gone not in tanda.facts()["pids"]["gateway"] and tanda.is_ready(), RESTART_S_MAX
    )


async def test_an_upgrade_is_there_after_one_reload(browser: "Browser", tanda: Running, build: Path) -> None:
    """A tab says that there is a newer page, its screens still open, and one reload later all is new."""
    async with context_of(browser) as context:
        page, complaints = await page_of(context, f"{tanda.url}/#/batches")
        await page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        await until_seen(page, "() => Boolean(navigator.serviceWorker.controller)")
        await link(page, "live")
        old = _names(build)
        new = _rebuild(build, "Lotes de ahora")
        await _upgraded(tanda)
        await page.get_by_text("Hay una versión nueva").wait_for()
        # The tab that is open goes on as it was, also where it has never been.
        await page.goto(f"{tanda.url}/#/system")
        await page.locator("h1", has_text="Sistema").wait_for()
        await page.goto(f"{tanda.url}/#/batches")
        await page.get_by_role("button", name="Recargar").click()
        await page.locator("h1", has_text="Lotes de ahora").wait_for()
        loaded = {path for path in await page.evaluate(LOADED) if path.endswith((".js", ".css"))}
        assert loaded - {"/console/offline.js"} <= new
        # And it is the new one that is kept for when nobody answers.
        await tanda.until(lambda: page.evaluate(HAS, sorted(new)), RESTART_S_MAX)
        await link(page, "live")
        await context.set_offline(True)
        await page.reload()
        await page.locator("h1", has_text="Lotes de ahora").wait_for()
        await context.set_offline(False)
        await link(page, "live")
        # Another one later nothing is left of the first.
        _rebuild(build, "Lotes de mañana")
        await _upgraded(tanda)
        await page.get_by_role("button", name="Recargar").click()
        await tanda.until(lambda: page.evaluate(HAS, sorted(_names(build))), RESTART_S_MAX)
        await tanda.until(lambda: page.evaluate(HAS_NONE, sorted(old)), RESTART_S_MAX)
        assert complaints == []


async def test_no_answer_of_the_api_is_an_old_one(browser: "Browser", tanda: Running) -> None:
    """Through a service worker a read is the gateway's, at once, and nobody's where it is away."""
    async with tanda.http() as http:
        batch = (await http.post("/v1/batches", json={"open": True})).json()["id"]
        async with context_of(browser) as context:
            page, _ = await page_of(context, f"{tanda.url}/#/batches")
            await page.evaluate("navigator.serviceWorker.ready.then(() => true)")
            await until_seen(page, "() => Boolean(navigator.serviceWorker.controller)")
            assert await page.evaluate(PRIORITY, batch) == "normal"
            changed = await http.patch(f"/v1/batches/{batch}", json={"priority": "bulk"})
            assert changed.is_success, changed.text
            seq = changed.headers["Tanda-Seq"]
            assert (await http.get(f"/v1/batches/{batch}", params={"min_seq": seq})).is_success
            assert await page.evaluate(PRIORITY, batch) == "bulk"
            await context.set_offline(True)
            assert await page.evaluate(PRIORITY, batch) == "nobody"
            assert not [path for path in await page.evaluate(KEPT) if path.startswith("/v1")]
