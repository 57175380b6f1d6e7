"""Faults at random over uploads, processing and commands; then every invariant, and a table.

``CHAOS_SEED`` repeats the plan of a run; ``CHAOS_FAULTS`` and ``CHAOS_FILES`` are its length.
"""

import asyncio
import os
from pathlib import Path

import pytest

from tests.chaos.faults import Injected, inject, plan
from tests.chaos.invariants import check
from tests.chaos.recovery import outcome_times, table
from tests.chaos.workload import Workload
from tests.running import running

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(14_400)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))
FAULTS = int(os.environ.get("CHAOS_FAULTS", "5"))
FILES_MIN = int(os.environ.get("CHAOS_FILES", "300"))
PEOPLE = 3
QUIET_S = float(os.environ.get("CHAOS_QUIET_S", "1"))
FINISH_S_MAX = 600.0


async def test_no_fault_costs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is killed, stopped or slowed: each acknowledged file has its one right outcome."""
    tmp_path.chmod(0o711)
    with capsys.disabled():
        print(f"\nCHAOS_SEED={SEED} CHAOS_FAULTS={FAULTS} CHAOS_FILES={FILES_MIN}", flush=True)
    async with running(tmp_path / "data", workers=2) as stack:
        work = Workload(stack, tmp_path, SEED)
        await work.refer()
        injected: list[Injected] = []

        def go_on() -> bool:
            return len(injected) < FAULTS or work.files < FILES_MIN

        async def break_things() -> None:
            for fault in plan(SEED, FAULTS, QUIET_S):
                await asyncio.sleep(fault.after_s)
                injected.append(await inject(stack, fault))

        async with asyncio.TaskGroup() as group:
            group.create_task(break_things())
            for number in range(PEOPLE):
                group.create_task(work.person(number, go_on))
        await stack.until(stack.is_ready, 120)
        await work.all_finished(FINISH_S_MAX)
        events = await check(stack, work.batches, work.reference)
        assert len(injected) == FAULTS
        with capsys.disabled():
            print("\n".join(table(injected, outcome_times(events))))
            print(
                f"{work.files} files, {len(work.batches)} batches, {len(events)} events: all invariants hold"
            )
            print(f"commands: {work.commands}", flush=True)
