"""Faults at random over uploads, processing and commands; then every invariant, and a table.

``CHAOS_SEED`` repeats the plan of a run; ``CHAOS_FAULTS`` and ``CHAOS_FILES`` are its length.
"""

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.chaos.faults import Injected, inject, plan
from tests.chaos.invariants import Span, check
from tests.chaos.recovery import outcome_times, table
from tests.chaos.workload import Workload
from tests.chaos.world import chaos_stack

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(14_400)]

SEED = int(os.environ.get("CHAOS_SEED", "1"))
FAULTS = int(os.environ.get("CHAOS_FAULTS", "5"))
FILES_MIN = int(os.environ.get("CHAOS_FILES", "300"))
#: Small files in a batch; a long run takes more.
PLAIN_FILES = int(os.environ.get("CHAOS_BATCH_FILES", "200"))
#: The mean quiet time between two faults, and between two replays.
QUIET_S = float(os.environ.get("CHAOS_QUIET_S", "1"))
REPLAY_EVERY_S = float(os.environ.get("CHAOS_REPLAY_EVERY_S", "5"))
PEOPLE = 3
FINISH_S_MAX = 600.0
#: After a fault this long nobody expects progress: processes start, leases run out.
TROUBLE_AFTER_MS = 15_000


async def test_no_fault_costs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is killed, stopped, cut off, slowed, filled or set to another time: each acknowledged file
    has its one right outcome."""
    tmp_path.chmod(0o711)
    began = time.monotonic()
    say(capsys, f"\nCHAOS_SEED={SEED} CHAOS_FAULTS={FAULTS} CHAOS_FILES={FILES_MIN} CHAOS_QUIET_S={QUIET_S}")
    async with chaos_stack(tmp_path / "data", workers=2) as stack:
        for kind, why in stack.lacking.items():
            say(capsys, f"without faults of the kind {kind}: {why}")
        work = Workload(stack, tmp_path, SEED, PLAIN_FILES)
        await work.refer()
        injected: list[Injected] = []

        def go_on() -> bool:
            return len(injected) < FAULTS or work.files < FILES_MIN

        async def break_things() -> None:
            for fault in plan(SEED, FAULTS, QUIET_S, without=stack.lacking):
                await asyncio.sleep(fault.after_s)
                say(capsys, f"{time.monotonic() - began:7.1f} s {work.files:6} files: {fault}", often=False)
                injected.append(await inject(stack, fault))

        async with asyncio.TaskGroup() as group:
            group.create_task(break_things())
            group.create_task(work.replayer(go_on, REPLAY_EVERY_S))
            for number in range(PEOPLE):
                group.create_task(work.person(number, go_on))
        await stack.until(stack.is_ready, 120)
        await work.all_finished(FINISH_S_MAX)
        troubles = [Span((one.at_ms, one.until_ms + TROUBLE_AFTER_MS)) for one in injected]
        events = await check(stack, work.batches, work.reference, troubles=troubles)
        assert len(injected) == FAULTS
        assert any(one.group and one.name == "FileCompleted" for one in events), "no group was completed"
        say(capsys, "\n".join(table(injected, outcome_times(events))))
        took_s = time.monotonic() - began
        say(
            capsys,
            f"{work.files} files in {len(work.batches)} batches, {len(events)} events: 0 lost, 0 double",
        )
        say(capsys, f"in {took_s:.0f} s; commands: {work.commands}; replays under faults: {work.replays}")


def say(capsys: pytest.CaptureFixture[str], line: str, *, often: bool = True) -> None:
    """Past pytest's capture; what comes often only where CHAOS_LOG asks for it."""
    if often or os.environ.get("CHAOS_LOG"):
        with capsys.disabled():
            print(line, flush=True)
