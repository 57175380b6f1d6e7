"""Tanda as a user runs it: ``tanda up`` in a folder of its own, with pids to kill."""

import asyncio
import contextlib
import json
import mimetypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2

from tanda.client import Client
from tanda.client.tls import verify_for

START_S_MAX = 120.0
STOP_S_MAX = 15.0
POLL_S = 0.05
SERVICES = ("gateway", "worker", "storage", "projector")
SERVERS = ("nats", "postgres", "s3")


class Running:
    """One stack, started, stopped, killed and started again in the same folder."""

    def __init__(
        self, data: Path, *, workers: int = 1, env: dict[str, str] | None = None, module: str | None = None
    ) -> None:
        """``module`` stands for ``tanda up``; it is given the folder and the number of workers."""
        self.data = data
        self._module = module
        self._workers = workers
        self._env = {key: value for key, value in os.environ.items() if not key.startswith("TANDA_")}
        self._env |= env or {}
        self._process: subprocess.Popen[bytes] | None = None

    # -- its life

    async def start(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        where, count = str(self.data), str(self._workers)
        usual = ("tanda.cli", "up", "--data", where, "--port", "0", "--workers", count)
        words = (self._module, where, count) if self._module else usual
        with (self.data / "up.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *words], stdout=log, stderr=subprocess.STDOUT, env=self._env
            )
        await self.until(self.is_ready, START_S_MAX)

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, STOP_S_MAX)

    def kill(self, name: str) -> int:
        """kill -9 of one process of a service or server; the pid."""
        pid = self.facts()["pids"][name][0]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def away(self, name: str) -> Iterator[None]:
        """No such service or server for the length of the block: nobody starts another one."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            self.kill(name)
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def kill_everything(self) -> None:
        """kill -9 of the supervisor and of all that it had started."""
        pids = [pid for group in self.facts()["pids"].values() for pid in group]
        assert self._process is not None
        for pid in (self._process.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    # -- what it says of itself

    def facts(self) -> dict[str, Any]:
        return json.loads((self.data / "run.json").read_text())

    @property
    def url(self) -> str:
        return self.facts()["url"]

    def is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.data / "up.log").read_text()[-4000:]
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=2, verify=verify_for(self.url)).is_success
        except (OSError, ValueError, httpx2.TransportError):
            return False

    def client(self, tenant: str | None = None) -> Client:
        return Client(self.url, tenant=tenant)

    def http(self, tenant: str | None = None) -> httpx2.AsyncClient:
        headers = {"Tanda-Tenant": tenant} if tenant else {}
        return httpx2.AsyncClient(base_url=self.url, headers=headers, timeout=60, verify=verify_for(self.url))

    def tanda(self, *arguments: str, within_s: float = 120) -> subprocess.CompletedProcess[str]:
        """The command line, on this stack."""
        command = [sys.executable, "-m", "tanda.cli", *arguments, "--data", str(self.data)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=within_s, env=self._env, check=False
        )

    # -- waiting

    async def until(self, condition: Any, within_s: float) -> Any:
        """Polls a condition (plain or async) to a deadline; what it gave."""
        deadline = time.monotonic() + within_s
        while True:
            value = condition()
            value = await value if asyncio.iscoroutine(value) else value
            if value:
                return value
            assert time.monotonic() < deadline, f"not within {within_s} s; see {self.data / 'up.log'}"
            await asyncio.sleep(POLL_S)

    async def finished(self, batch_id: str, within_s: float = 120.0) -> dict[str, Any]:
        """The batch once its results are ready, through gateways that come and go."""

        async def look() -> dict[str, Any] | None:
            batch = await self.batch(batch_id)
            done = batch and batch["completed_at"] and batch["results"]["ready"]
            return batch if done else None

        return await self.until(look, within_s)

    async def batch(self, batch_id: str) -> dict[str, Any] | None:
        """The batch, or None while nobody answers."""
        try:
            url = self.url
            async with httpx2.AsyncClient(timeout=5, verify=verify_for(url)) as http:
                response = await http.get(f"{url}/v1/batches/{batch_id}")
        except (OSError, ValueError, httpx2.TransportError):
            return None
        return response.json() if response.is_success else None


@contextlib.asynccontextmanager
async def running(data: Path, **options: Any) -> AsyncIterator[Running]:
    """A stack for the length of the block."""
    stack = Running(data, **options)
    try:
        await stack.start()
        yield stack
    finally:
        await stack.stop()


async def post_batch(
    http: httpx2.AsyncClient, files: list[Path], **fields: str
) -> httpx2.Response:  # fmt: skip
    """One multipart upload of files from disk, with the types a browser would declare."""
    parts = [("files", (path.name, path.read_bytes(), declared_type(path))) for path in files]
    return await http.post("/v1/batches", files=parts, data=fields)


def declared_type(path: Path) -> str:
    """What a browser would declare."""
    return mimetypes.guess_type(path.name)[0] or "application/octet-stream"
