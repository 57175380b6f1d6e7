"""Servers that these tests may kill and damage, shared by them all."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tanda.embedded import Servers, servers
from tanda.settings import from_environment
from tests.integration.databases import own_database
from tests.integration.recovery.site import Site, site


@pytest.fixture(scope="session")
async def victims() -> AsyncIterator[Servers]:
    async with servers() as three:
        yield three


@pytest.fixture
async def place(victims: Servers, tmp_path: Path) -> AsyncIterator[Site]:
    """An empty log, an empty bucket, an empty database."""
    settings = from_environment({**victims.env, "TANDA_DATA": str(tmp_path)})
    async with own_database(settings) as own, site(victims, own) as one:
        yield one
