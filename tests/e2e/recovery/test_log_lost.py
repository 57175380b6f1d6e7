"""The log's disk is lost: Tanda says so, and one command brings everything back as it was."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tanda.samples import write_samples
from tests.chaos.invariants import check
from tests.running import Running, post_batch

pytestmark = pytest.mark.timeout(300)
UP_S_MAX = 120


async def up_refuses(stack: Running) -> str:
    """Starts the stack, which ends by itself; what it said."""
    command = [sys.executable, "-m", "tanda.cli", "up", "--data", str(stack.data), "--port", "0"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("TANDA_")}
    ended = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=UP_S_MAX, env=env, check=False
    )  # fmt: skip
    assert ended.returncode == 3, ended
    return ended.stderr


async def facts_of(stack: Running, batch_id: str) -> tuple[dict[str, Any], list[dict[str, Any]], bytes]:
    """The batch, its files, and its result JSON."""
    async with stack.http() as http:
        batch = (await http.get(f"/v1/batches/{batch_id}")).json()
        files = (await http.get(f"/v1/batches/{batch_id}/files", params={"limit": 200})).json()["data"]
        results = await http.get(f"/v1/batches/{batch_id}/results")
    assert results.status_code == 200
    return batch, files, results.content


async def archived(stack: Running, batch_id: str) -> bool:
    """Nothing more will happen to the batch: its sources are where they stay."""
    async with stack.http() as http:
        files = (await http.get(f"/v1/batches/{batch_id}/files", params={"limit": 200})).json()["data"]
    return all(one["status"] != "completed" or one["source"]["state"] == "archived" for one in files)


async def test_a_lost_log_comes_back_with_everything_in_it(tmp_path: Path) -> None:
    """The NATS folder is deleted: refused, restored, all is what it was, and every invariant holds."""
    tmp_path.chmod(0o711)
    (tmp_path / "samples").mkdir()
    files = write_samples(tmp_path / "samples")[:12]
    stack = Running(tmp_path / "data")
    try:
        await stack.start()
        async with stack.http() as http:
            created = (await post_batch(http, files, name="noviembre")).json()
        await stack.finished(created["id"])
        await stack.until(lambda: archived(stack, created["id"]), 60)
        before = await facts_of(stack, created["id"])
        assert await stack.stop() == 0

        shutil.rmtree(stack.data / "nats")
        said = await up_refuses(stack)
        assert "The event log is damaged" in said
        assert f"`tanda replay --from-archive --data {stack.data}`" in said
        ill = stack.tanda("doctor")
        assert ill.returncode == 1 and "log_went_back" in ill.stdout, ill
        restored = stack.tanda("replay", "--from-archive")
        assert restored.returncode == 0, restored.stderr
        assert "events were restored" in restored.stdout and "lost" not in restored.stdout

        await stack.start()
        assert await facts_of(stack, created["id"]) == before
        running = stack.tanda("replay", "--from-archive")
        assert running.returncode == 1 and "stop it first" in running.stderr
        async with stack.http() as http:
            again = (await post_batch(http, files[:3], name="diciembre")).json()
        assert (await stack.finished(again["id"]))["counts"]["total"] == 3
        well = stack.tanda("doctor", "--deep")
        assert well.returncode == 0, well.stdout
        await check(stack, [created["id"], again["id"]])
    finally:
        await stack.stop()
