"""A gateway over memory, and batches of which a test says how far they have come."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.integration.gateway.stand import Stand, settings_in


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(settings_in(tmp_path, sse_ping_s=0.1)).running() as it:
        yield it


@pytest.fixture
async def http(stand: Stand) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=stand.url, timeout=30) as client:
        yield client
