"""Fixtures for every test: the servers once per run, names and folders of its own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import pytest

from tanda.settings import Settings
from tests.stack import Stack, stack


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Stack]:
    """NATS, PostgreSQL and S3 for the whole run."""
    async with stack() as running:
        yield running


@pytest.fixture
def settings(servers: Stack, tmp_path: Path) -> Settings:
    """Settings for the run's servers, with a spool folder of the test's own."""
    return servers.settings(tmp_path)


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has."""
    return f"t{token_hex(4)}"
