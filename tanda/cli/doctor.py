"""``tanda doctor``: is everything there, and does it agree? And mending what does not."""

import asyncio
import os
from asyncio.subprocess import PIPE
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from cyclopts import Parameter

from tanda.adapters.nats_connection import ApiError
from tanda.cli import replay, show, site
from tanda.cli.target import Failed, Target
from tanda.doctor import checks
from tanda.doctor.findings import Finding, wrong
from tanda.doctor.patient import Holdings, Patient, patient
from tanda.doctor.programs import packages, programs
from tanda.doctor.repairs import mend
from tanda.domain.errors import TandaError
from tanda.settings import from_environment

HERE = Target()
#: A check of one server; those that read the whole log take the time that takes.
CHECK_S_MAX = 30.0
Flag = Annotated[bool, Parameter(negative="")]
Check = Callable[[], Awaitable[list[Finding]]]


def doctor(
    *, repair: Flag = False, deep: Flag = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False, target: Target = HERE,
) -> int:  # fmt: skip
    """Look at servers, log, archive, objects, views and work, and say what is wrong; exit 1 if so.

    Where nothing runs in the data folder, its servers are started for the look.

    Args:
        repair: Mend what can be mended from the log and its archive.
        deep: Also read every segment of the archive, and compare every view with a replay.
        json: One finding as JSON a line.
    """
    try:
        findings = asyncio.run(_doctor(target, repair=repair, deep=deep))
    except TandaError as error:
        raise Failed(str(error)) from error
    for one in findings:
        if json:
            show.as_json(msgspec.to_builtins(one))
        else:
            _print(one)
    return 0 if all(one.ok or one.mended for one in findings) else 1


def _print(one: Finding) -> None:
    mark = "ok  " if one.ok else "done" if one.mended else "BAD "
    show.console.print(f"{mark} {one.check:<10} {one.says}", markup=False)
    if not one.ok and not one.mended:
        show.console.print(f"{'':<16}{one.code}: {one.do}", markup=False)
        for thing in one.about:
            show.console.print(f"{'':<18}{thing}", markup=False)


async def _doctor(target: Target, *, repair: bool, deep: bool) -> list[Finding]:
    async with site.reachable(target) as env:

        async def replayed(*arguments: str) -> tuple[int, str, str]:
            process = await asyncio.create_subprocess_exec(
                *replay.COMMAND, *arguments, env={**os.environ, **env}, stdout=PIPE, stderr=PIPE
            )
            out, err = await process.communicate()
            return await process.wait(), out.decode(), err.decode()

        async with patient(from_environment(env), replayed) as one:
            before = await examine(one, deep=deep)
            if not repair or all(finding.ok for finding in before):
                return before
            await mend(one, before)
            return mended(before, await examine(one, deep=deep))


def mended(before: list[Finding], after: list[Finding]) -> list[Finding]:
    """What is there now, and what was wrong and is no more."""
    still = {one.code for one in after}
    gone = [one for one in before if not one.ok and one.code not in still]
    return [*(msgspec.structs.replace(one, mended=True) for one in gone), *after]


async def examine(one: Patient, *, deep: bool = False) -> list[Finding]:
    """Every check, each by itself: one that fails does not hide the others."""
    found = [packages(), *await asyncio.to_thread(programs)]
    first: dict[str, Check] = {
        "nats": lambda: checks.nats(one),
        "s3": lambda: checks.s3(one),
        "log": lambda: checks.log(one),
    }
    for name, check in first.items():
        found += await _find(name, check, CHECK_S_MAX)
    found += await _find("archive", lambda: checks.archive(one, deep=deep))
    found += await _find("views", lambda: checks.views(one, deep=deep))
    return found + await _find("objects", lambda: _with_holdings(one))


async def _with_holdings(one: Patient) -> list[Finding]:
    """What needs the whole log to be read, which is done once."""
    running = await one.running()
    holdings: Holdings = await one.holdings()
    return [*await checks.objects(one, holdings, running), *await checks.work(one, holdings, running)]


async def _find(name: str, check: Check, within_s: float | None = None) -> list[Finding]:
    try:
        async with asyncio.timeout(within_s):
            return await check()
    except (TandaError, ApiError, OSError, TimeoutError, ValueError) as error:
        says = str(error) or type(error).__name__
        return [wrong(name, f"{name}_unavailable", says, "Does the server run? Look at its log.")]
