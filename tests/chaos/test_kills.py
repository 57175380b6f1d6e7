"""kill -9 of services and servers in mid-batch: every file has exactly one outcome all the same."""

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from tanda.samples import sample_truth, write_samples
from tests.chaos.invariants import check
from tests.running import SERVERS, SERVICES, Running, post_batch, running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

ROUNDS = int(os.environ.get("TANDA_TEST_CHAOS_ROUNDS", "3"))
SEED = int(os.environ.get("TANDA_TEST_SEED", "1"))
FILES = 300
FINISH_S_MAX = 240.0


def batch_of_300(folder: Path) -> list[Path]:
    """The samples, six times over, under different names."""
    files: list[Path] = []
    for turn in range(6):
        part = folder / str(turn)
        part.mkdir()
        for path in write_samples(part):
            files.append(path.rename(path.with_name(f"{turn}-{path.name}")))
    return files[:FILES]


async def kill_and_wait(stack: Running, name: str) -> None:
    """One kill -9, and the supervisor has another one running."""
    pid = stack.kill(name)
    await stack.until(lambda: pid not in stack.facts()["pids"][name] and stack.facts()["pids"][name], 60)


async def settled(stack: Running, batch_id: str) -> int:
    batch = await stack.batch(batch_id)
    if batch is None:
        return -1
    counts = batch["counts"]
    return sum(counts[one] for one in ("completed", "failed", "rejected", "cancelled"))


async def test_random_kills_cost_nothing_but_time(tmp_path: Path) -> None:
    """Random victims at spread points of a 300-file batch; then every invariant, by a checker of its own."""
    tmp_path.chmod(0o711)
    rng = random.Random(SEED)
    files = batch_of_300(tmp_path)
    victims = [rng.choice(SERVICES + SERVERS) for _ in range(ROUNDS)]
    async with running(tmp_path / "data", workers=2) as stack:
        batches: list[str] = []
        for start in range(0, ROUNDS, 5):
            async with stack.http() as http:
                created = (await post_batch(http, files, name=f"chaos {start}")).json()
            batches.append(created["id"])
            for number, name in enumerate(victims[start : start + 5]):
                point = number * FILES // 6

                async def reached(point: int = point, batch_id: str = created["id"]) -> bool:
                    return await settled(stack, batch_id) >= point

                await stack.until(reached, FINISH_S_MAX)
                await kill_and_wait(stack, name)
            await stack.finished(created["id"], FINISH_S_MAX)
        await stack.until(stack.is_ready, 60)
        await check(stack, batches)
        expect_the_truth(stack, batches)


def expect_the_truth(stack: Running, batches: list[str]) -> None:
    """The outcomes are those of an undisturbed run."""
    truth = sample_truth()
    with stack.client() as client:
        for batch_id in batches:
            for file in client.files(batch_id):
                expected: dict[str, Any] = truth[file["name"].partition("-")[2]]
                assert file["status"] == expected["status"], (file["name"], file["error"])


async def test_everything_dies_at_once_and_goes_on(tmp_path: Path) -> None:
    """Power loss for processes: all killed in mid-batch; `tanda up` goes on with no manual step."""
    tmp_path.chmod(0o711)
    files = batch_of_300(tmp_path)
    stack = Running(tmp_path / "data", workers=2)
    try:
        await stack.start()
        async with stack.http() as http:
            created = (await post_batch(http, files, name="lights out")).json()
        await stack.until(lambda: _some(stack, created["id"]), 60)
        stack.kill_everything()
        await stack.start()
        finished = await stack.finished(created["id"], FINISH_S_MAX)
        assert finished["counts"]["total"] == FILES
        await check(stack, [created["id"]])
        assert json.loads((stack.data / "run.json").read_text())["url"]
    finally:
        await stack.stop()


async def _some(stack: Running, batch_id: str) -> bool:
    return 0 < await settled(stack, batch_id) < FILES
