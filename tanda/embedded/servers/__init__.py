"""The three servers alone: what the tests of the adapters and services run on."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path

from tanda.embedded import orphans
from tanda.embedded.folder import Folder
from tanda.embedded.servers.nats import Nats
from tanda.embedded.servers.postgres import Postgres
from tanda.embedded.servers.s3 import S3
from tanda.embedded.servers.server import Server


class Servers:
    """The servers of one data folder. Each may be killed by its ``pid`` and started again by ``start()``."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.nats = Nats(folder)
        self.postgres = Postgres(folder)
        self.s3 = S3(folder)

    @property
    def all(self) -> list[Server]:
        return [self.nats, self.postgres, self.s3]

    @property
    def env(self) -> dict[str, str]:
        """``TANDA_NATS_URL`` and so on: what a service needs to reach them. Valid once they are started."""
        return {name: value for server in self.all for name, value in server.environment().items()}


@contextlib.asynccontextmanager
async def servers(data: Path | None = None) -> AsyncGenerator[Servers]:
    """Runs the three for the length of the block; without ``data`` in a new folder, erased afterwards."""
    folder = Folder(data) if data else _temporary()
    try:
        with folder.locked():
            await orphans.stop(lambda: orphans.marked(folder.path), signal.SIGTERM)
            three = Servers(folder)
            try:
                await start_all(three.all)
                yield three
            finally:
                await stop_all(three.all)
    finally:
        if not data:
            folder.erase()


async def start_all(started: Iterable[Server]) -> None:
    """All at once; when one cannot start the others are stopped and its ServerFailed is raised."""
    tasks = [asyncio.create_task(server.start()) for server in started]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def stop_all(stopped: Iterable[Server], within_s: float | None = None) -> None:
    await asyncio.gather(*(server.stop(within_s) for server in stopped))


def _temporary() -> Folder:
    """Under root another user runs PostgreSQL and has to reach it, so this folder is not closed."""
    parent = Path(tempfile.mkdtemp(prefix="tanda-"))
    parent.chmod(0o711)
    return Folder(parent)
