"""One running Tanda for the end-to-end tests that do not stop or kill it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tanda.samples import write_samples
from tests.running import Running, running


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
