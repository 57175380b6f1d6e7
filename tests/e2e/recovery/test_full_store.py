"""The object store goes on once its full disk has room again, also if it was writing down names just then."""

import asyncio
from pathlib import Path
from secrets import token_hex

import httpx2
import pytest

from tests.chaos.world import ChaosStack, chaos_stack

pytestmark = pytest.mark.timeout(300)

#: So small that the store still has room for some of them, and then none for their names.
BYTES = b"small"
UPLOADS = 40
#: It spreads names over eight stores of them by their folder; each batch has folders of its own.
AFTERWARDS = 40
PATIENCE_S = 60.0
STUCK = b": no space left on device"


async def test_a_store_that_met_the_end_of_its_disk_goes_on_when_there_is_room(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    async with chaos_stack(tmp_path / "data", workers=1) as stack:
        if "full" in stack.lacking:
            pytest.skip(f"no disk of its own: {stack.lacking['full']}")
        async with stack.http() as http:
            for _ in range(5):
                with stack.full("s3"):
                    await asyncio.gather(*(upload(http) for _ in range(UPLOADS)))
                if is_stuck(stack):
                    break
            assert is_stuck(stack), "names found room each time: nothing was tried"
            for _ in range(AFTERWARDS):
                await stack.until(lambda: upload(http), PATIENCE_S)


async def upload(http: httpx2.AsyncClient) -> bool:
    """Whether one more batch was taken."""
    form = [("files", (f"{token_hex(4)}.bin", BYTES))]
    response = await http.post("/v1/batches", data={"processor": "noop"}, files=form)
    assert response.status_code in (201, 503, 507), response.text
    return response.status_code == 201


def is_stuck(stack: ChaosStack) -> bool:
    """Whether a store of names has met the end of the disk."""
    lines = (stack.data / "logs" / "s3.log").read_bytes().splitlines()
    return any(STUCK in line and b"filerldb2/" in line for line in lines)
