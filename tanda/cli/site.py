"""The servers for commands that work without the services: those of a running stack, or started for it."""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tanda.cli.target import Failed, Target
from tanda.embedded import FolderInUse, servers


def runs(target: Target) -> bool:
    """Whether a stack runs in the data folder, or external servers are named in the environment."""
    if "TANDA_NATS_URL" in os.environ:
        return True
    try:
        os.kill(target.run_facts()["supervisor"], 0)
    except (Failed, OSError, KeyError, json.JSONDecodeError):
        return False
    return True


@asynccontextmanager
async def reachable(target: Target) -> AsyncGenerator[dict[str, str]]:
    """The servers' addresses; where nothing runs in the data folder, its servers run for the block."""
    if runs(target):
        yield target.environment()
        return
    if not (target.data / "secrets").is_dir():
        raise Failed(f"nothing is in {target.data}: start Tanda with `tanda up`, or give --data")
    try:
        async with servers(target.data) as three:
            yield {**three.env, "TANDA_DATA": str(target.data)}
    except FolderInUse as error:
        raise Failed(str(error)) from error
