"""An upload by the command line while the gateway is killed under it, and one that is begun again."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.running import Running, running


def many_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}.csv").write_bytes(b"a;b\n" + os.urandom(200_000).hex().encode() + b";1\n")


def begin_upload(stack: Running, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tanda.cli", "upload", str(folder), "--processor", "noop", "--json"]
    return subprocess.Popen(
        [*command, "--data", str(stack.data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


async def some_files(stack: Running) -> bool:
    """An open batch has some of its files; a stack that has just begun may still be making its views."""
    async with stack.http() as http:
        response = await http.get("/v1/batches?status=open")
    if response.status_code == 503:
        return False
    (batch,) = response.json()["data"] or [None]
    return bool(batch) and batch["counts"]["total"] >= 5


async def expect_one_whole_batch(stack: Running, folder: Path, out: str) -> None:
    """One batch, with every file once, in the order in which they were named."""
    with stack.client() as client:
        (batch,) = client.batches()
        assert batch["id"] in out
        finished = await stack.finished(batch["id"])
        names = sorted(path.name for path in folder.iterdir())
        assert [one["name"] for one in client.files(batch["id"])] == names
        assert finished["counts"]["completed"] == len(names)


async def test_an_upload_outlasts_a_killed_gateway(tmp_path: Path) -> None:
    """The client waits for the next gateway and goes on; nobody has to call it again."""
    tmp_path.chmod(0o711)
    folder = tmp_path / "files"
    many_files(folder, 80)
    async with running(tmp_path / "data") as stack:
        upload = begin_upload(stack, folder)
        await stack.until(lambda: some_files(stack), 60)
        stack.kill("gateway")
        out, err = await asyncio.to_thread(upload.communicate)
        assert upload.returncode == 0, err
        await expect_one_whole_batch(stack, folder, out)


async def test_a_killed_client_goes_on_where_it_was(tmp_path: Path) -> None:
    """The second call finds the open batch of the first, and sends what is missing."""
    tmp_path.chmod(0o711)
    folder = tmp_path / "files"
    many_files(folder, 80)
    async with running(tmp_path / "data") as stack:
        first = begin_upload(stack, folder)
        await stack.until(lambda: some_files(stack), 60)
        first.send_signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait)
        second = begin_upload(stack, folder)
        out, err = await asyncio.to_thread(second.communicate)
        assert second.returncode == 0, err
        await expect_one_whole_batch(stack, folder, out)
