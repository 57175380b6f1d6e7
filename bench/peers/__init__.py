"""What people use today, measured beside ours in the same run: 5,000 no-op files of 1 kB.

Each peer runs in an environment of its own (``requirements.txt``), its worker in a process of its own, on
servers that are started for it and sync every acknowledged write. ``files_per_s`` is from the first
enqueue to the last result stored, as such a peer's user would write it, batched where it knows batches.
"""

import asyncio
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tanda.embedded import servers

HERE = Path(__file__).parent
#: Kept between runs, as ``.venv`` is.
ENVIRONMENT = HERE.parents[1] / ".bench" / "peers"
READY_S_MAX = 20.0
RUN_S_MAX = 300.0

Rate = Callable[[str, int], Awaitable[float]]


def python() -> Path:
    """The peers' interpreter; their packages are installed where they are not."""
    found = ENVIRONMENT / "bin" / "python"
    uv = Path(sys.executable).with_name("uv")
    if not found.exists():
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, ENVIRONMENT], check=True)
    requirements = HERE / "requirements.txt"
    subprocess.run([uv, "pip", "install", "-q", "--python", found, "-r", requirements], check=True)
    return found


async def measure(files: int) -> dict[str, float]:
    """Files per second of each peer that can be run here, one after the other."""
    interpreter = python()
    rates: dict[str, float] = {}
    async with servers() as embedded:
        env = embedded.env
        nats, postgres = env["TANDA_NATS_URL"], env["TANDA_POSTGRES_DSN"]
        rates["FastStream + NATS JetStream"] = await _rate(interpreter, "faststream_nats", nats, files)
        rates["pgqueuer (PostgreSQL)"] = await _rate(interpreter, "pgqueuer_postgres", postgres, files)
    if shutil.which("redis-server"):
        async with redis() as url:
            rates["Celery + Redis"] = await _rate(interpreter, "celery_redis", url, files)
    else:
        print("redis-server is not installed: no Celery beside ours", file=sys.stderr)
    return rates


async def _rate(interpreter: Path, peer: str, server: str, files: int) -> float:
    process = await asyncio.create_subprocess_exec(
        interpreter, HERE / f"{peer}.py", server, str(files), stdout=asyncio.subprocess.PIPE, cwd=HERE
    )
    out, _ = await asyncio.wait_for(process.communicate(), RUN_S_MAX)
    if process.returncode:
        raise RuntimeError(f"{peer} ended with {process.returncode}")
    return float(json.loads(out.splitlines()[-1])["files_per_s"])


@asynccontextmanager
async def redis() -> AsyncIterator[str]:
    """A Redis that syncs its append-only file at every write."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="tanda-bench-redis-") as folder:
        process = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "",
            "--appendonly", "yes", "--appendfsync", "always", stdout=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            await _listening(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()
            await process.wait()


async def _listening(port: int) -> None:
    async with asyncio.timeout(READY_S_MAX):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)
