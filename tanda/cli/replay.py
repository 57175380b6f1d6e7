"""``tanda replay``: read models rebuilt from the log, or proved equal to it."""

import os
import subprocess
import sys
from typing import Annotated

from cyclopts import Parameter

from tanda.cli.target import Failed, Target

HERE = Target()


def replay(
    *views: str,
    every: Annotated[bool, Parameter(name="--all", negative="")] = False,
    verify: Annotated[bool, Parameter(negative="")] = False,
    as_of: str | None = None,
    json: Annotated[bool, Parameter(name="--json", negative="")] = False,
    target: Target = HERE,
) -> int:
    """Build views again from the log beside the live ones, compare them, and swap.

    Args:
        views: batches, files, history, stats.
        every: All of them.
        verify: Change nothing; exit 1 where live and replayed differ, naming view, key and both values.
        as_of: Show a past moment instead: a log position or an RFC 3339 time.
        json: Print the outcome as JSON.
    """
    if bool(views) == every:
        raise Failed("name the views to replay, or --all")
    arguments = ["--all"] if every else list(views)
    arguments += ["--verify"] if verify else []
    arguments += ["--as-of", as_of] if as_of else []
    arguments += ["--json"] if json else []
    # The projector is a service; the command line shares no code with services, only their commands.
    command = [sys.executable, "-m", "services.projector.replay", *arguments]
    return subprocess.run(command, env={**os.environ, **target.environment()}, check=False).returncode
