"""A gateway on a real socket over the memory adapters."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import uvicorn

from services.gateway.__main__ import GatewayServer, server_config
from services.gateway.app import create_app
from services.gateway.deps import Deps
from services.projector.catalog import VIEWS
from tanda.adapters.bulk import MemoryBulk
from tanda.adapters.idempotency import MemoryIdempotency
from tanda.adapters.memory import MemoryBoard, MemoryLog, MemorySignals
from tanda.adapters.memory.blobs import MemoryBlobs
from tanda.adapters.memory.views import MemoryViews
from tanda.results import ResultsCache
from tanda.settings import Settings


class HeldViews(MemoryViews):
    """Views whose projector can be stopped."""

    held = False

    async def position(self) -> int:
        return self._seq if self.held else await super().position()


class Stand:
    """A running gateway with its adapters in reach."""

    def __init__(self, settings: Settings, **replaced: Any) -> None:
        self.settings = settings
        self.log = MemoryLog()
        self.blobs = MemoryBlobs()
        self.views = HeldViews(self.log, VIEWS.values())
        self.signals = MemorySignals()
        self.board = MemoryBoard()
        self.spool = Path(settings.data) / "spool"
        values: dict[str, Any] = {
            "settings": settings,
            "log": self.log,
            "blobs": self.blobs,
            "views": self.views,
            "signals": self.signals,
            "board": self.board,
            "bulk": MemoryBulk(),
            "idempotency": MemoryIdempotency(),
            "results": ResultsCache(self.log, self.blobs, Path(settings.data) / "results"),
        }
        self.deps = Deps(**{**values, **replaced})
        self.app = create_app(self.deps)
        self.url = ""
        self.server: uvicorn.Server

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator["Stand"]:
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = GatewayServer(server_config(self.app, self.settings), self.app.state.gateway.hub)
        task = asyncio.create_task(self.server.serve(sockets=[listener]))
        while not self.server.started:
            await asyncio.sleep(0.01)
        try:
            yield self
        finally:
            self.server.should_exit = True
            await task


def settings_in(folder: Path, **changed: Any) -> Settings:
    return Settings(data=str(folder), **changed)


XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<factura><numero>%d</numero></factura>\n'


def xml(number: int = 1) -> bytes:
    """A small file that every typed processor's check lets pass."""
    return XML % number


def parts(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes, str]]]:
    """Files for a multipart upload."""
    return [("files", (name, data, "application/octet-stream")) for name, data in files]


async def names_in_log(stand: Stand) -> list[str]:
    """The bare names of all events, in order."""
    return [record.name async for records in stand.log.read() for record in records]
