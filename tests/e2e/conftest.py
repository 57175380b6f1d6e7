"""One running Tanda for the end-to-end tests that do not stop or kill it, and a browser for the console's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tanda.samples import write_samples
from tests.node import console_copy
from tests.running import Running, running

if TYPE_CHECKING:
    from playwright.async_api import Browser

CHROMIUM = Path("/usr/bin/chromium")
#: In a container there is no sandbox to be had; the browser sees our own page only and calls nobody.
CHROMIUM_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
async def tanda(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("tanda")
    folder.chmod(0o711)
    async with running(folder / "data") as stack:
        yield stack


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The bundled 51 files."""
    return write_samples(tmp_path_factory.mktemp("samples"))


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator["Browser"]:
    """Debian's Chromium; a skip that says so where there is none."""
    playwright = pytest.importorskip("playwright.async_api", reason="the package playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds what a person with a disability cannot use."""
    folder = console_copy(tmp_path_factory.mktemp("axe") / "console")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text()
