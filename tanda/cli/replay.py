"""``tanda replay``: read models rebuilt from the log, or proved equal to it; the log from its archive."""

import asyncio
import os
import sys
from asyncio import create_subprocess_exec
from typing import Annotated

from cyclopts import Parameter

from tanda.cli import site
from tanda.cli.target import Failed, Target

HERE = Target()
Flag = Annotated[bool, Parameter(negative="")]
#: The projector is a service; the command line shares no code with services, only their commands.
COMMAND = (sys.executable, "-m", "services.projector.replay")


def replay(
    *views: str,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    verify: Flag = False,
    as_of: str | None = None,
    from_archive: Flag = False,
    force: Flag = False,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    target: Target = HERE,
) -> int:
    """Build views again from the log beside the live ones, compare them, and swap.

    Args:
        views: batches, files, stats.
        every: All of them.
        verify: Change nothing; exit 1 where live and replayed differ, naming view, key and both values.
        as_of: Show a past moment instead: a log position or an RFC 3339 time.
        from_archive: First restore the log itself from its archive, where it is lost or damaged. Stop Tanda
            before; the servers of the data folder are started for it.
        force: With --from-archive: though services seem to run on these servers.
        json: Print the outcome as JSON.
    """
    every = every or (from_archive and not views)
    if bool(views) == every:
        raise Failed("name the views to replay, or --all")
    arguments = ["--all"] if every else list(views)
    arguments += ["--verify"] if verify else []
    arguments += ["--as-of", as_of] if as_of else []
    arguments += ["--json"] if json else []
    if not from_archive:
        return asyncio.run(run(arguments, target.environment()))
    if site.runs(target) and "TANDA_NATS_URL" not in os.environ:
        raise Failed(f"Tanda runs in {target.data}: stop it first, then restore the log")
    return asyncio.run(_from_archive([*arguments, *(["--force"] if force else [])], target))


async def _from_archive(arguments: list[str], target: Target) -> int:
    async with site.reachable(target) as env:
        return await run(["--from-archive", *arguments], env)


async def run(arguments: list[str], env: dict[str, str]) -> int:
    """The projector's command on some servers; its exit code."""
    process = await create_subprocess_exec(*COMMAND, *arguments, env={**os.environ, **env})
    return await process.wait()
