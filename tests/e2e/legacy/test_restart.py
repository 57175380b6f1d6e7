"""What 002 admits to lose at a restart, and what 000 showed differently after one."""

from collections import Counter
from typing import Any

import httpx2

from tests.e2e.legacy.conftest import NEVER, OUTSIDE, SOON_S, Older, begin, create, picture, table

CLIPS = 60
ACTIVE = "/api/metricool/batches/active?userId=ana"


async def test_a_restart_of_everything_in_mid_batch_continues_by_itself(older: Older, tenant: str) -> None:
    """All killed at once while the publisher is being called, started again, and nobody presses anything."""
    names = [f"{tenant}-{n}.csv" for n in range(CLIPS)]
    older.script |= dict.fromkeys(names, lambda _: (200, {}, b"{}"))
    older.provider.work_s = 0.05
    async with older.http(tenant) as http:
        images = (await create(http, ("uno.png", picture(1)), owner="ana"))["id"]
        await older.stack.finished(images)
        shown = (await http.get(f"/batch-status/{images}")).json()
        files = [(name, table(n)) for n, name in enumerate(names)]
        batch = (await create(http, *files, owner="ana", start_at=NEVER, **OUTSIDE))["id"]
        await begin(http, batch)

        async def in_the_middle() -> bool:
            return 5 < (await active(http))["published"] < CLIPS

        await older.stack.until(in_the_middle, SOON_S)
    older.stack.kill_everything()
    await older.stack.start()
    async with older.http(tenant) as http:
        assert (await http.get(f"/batch-status/{images}")).json() == shown, "000: the same after a restart"
        finished = await older.stack.finished(batch, 60)
        older.provider.work_s = 0.0
        assert finished["counts"]["completed"] == CLIPS
        told = (await http.get(f"/api/metricool/batch/{batch}")).json()["batch"]
        assert (await http.get(ACTIVE)).json()["batches"] == []
    assert (told["status"], told["published"], told["failed"], told["progress"]) == (
        "completed", CLIPS, 0, 100,
    )  # fmt: skip
    outcomes = Counter(one["fileid"] for one in await older.events(batch, "FileCompleted"))
    assert sorted(outcomes) == sorted(clip["fileId"] for clip in told["clips"])
    assert set(outcomes.values()) == {1}, "no clip is published twice"


async def active(http: httpx2.AsyncClient) -> dict[str, Any]:
    (batch,) = (await http.get(ACTIVE)).json()["batches"]
    return batch
