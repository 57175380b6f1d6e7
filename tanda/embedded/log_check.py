"""The look at the log before any service may build on it: a process of its own, for it knows the servers."""

import asyncio
import json
import sys
from collections.abc import Mapping

from tanda.embedded.child import EXIT_LOG_DAMAGED
from tanda.embedded.process import MARK
from tanda.embedded.supervise import LogDamaged
from tanda.settings import TOLD_LATER

#: Exits as a service does that notices the same by itself.
_COMMAND = (sys.executable, "-m", "services.storage.check_log")
CHECK_S_MAX = 60.0


class LogCheck:
    """Prepared while the servers start, asked once they are there."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def prepare(self, data: str, env: Mapping[str, str]) -> None:
        """Lets it load its libraries."""
        self._process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            env={**env, MARK: data, TOLD_LATER: "1"},
            stdin=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def verdict(self, env: Mapping[str, str]) -> str:
        """What it has to say, if anything; LogDamaged where the log is."""
        assert self._process, "prepare it first"
        try:
            async with asyncio.timeout(CHECK_S_MAX):
                _, said = await self._process.communicate(json.dumps(dict(env)).encode())
        except (TimeoutError, asyncio.CancelledError):
            self.stop()
            raise
        sentence = said.decode("utf-8", "replace").strip()
        if self._process.returncode == EXIT_LOG_DAMAGED:
            raise LogDamaged(sentence)
        return sentence

    def stop(self) -> None:
        """Where it was never asked, or does not answer."""
        if self._process and self._process.returncode is None:
            self._process.kill()
