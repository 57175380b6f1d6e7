"""``tanda up`` and ``tanda demo``: everything started, kept alive, and shown at work."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import httpx2
from cyclopts import Parameter

from tanda.cli import show
from tanda.cli.target import DATA_DEFAULT, Failed, Target
from tanda.client import Client, collect_files
from tanda.client.tls import verify_for

#: The first start makes a database and waits for the slowest server.
START_S_MAX = 180.0
POLL_S = 0.1
DataFolder = Annotated[Path, Parameter(name="--data", env_var="TANDA_DATA")]


def up(*, data: DataFolder = Path(DATA_DEFAULT), port: int | None = None, workers: int | None = None) -> int:
    """Start the servers and the services, and keep them running until Ctrl-C.

    Args:
        data: The folder that keeps everything.
        port: The gateway's port; 0 takes a free one.
        workers: How many worker processes.
    """
    from tanda.embedded.stack import UpOptions
    from tanda.embedded.stack import up as run_stack

    return asyncio.run(run_stack(UpOptions(data=data, port=port, workers=workers)))


def demo(
    *files: Path, data: DataFolder = Path(DATA_DEFAULT), port: int | None = None, workers: int | None = None
) -> int:
    """Start everything, process the sample batch or your own files, and stay up until Ctrl-C.

    Args:
        files: Files or folders of your own; without them the bundled sample of 51 files.
        data: The folder that keeps everything.
        port: The gateway's port; 0 takes a free one.
        workers: How many worker processes.
    """
    from tanda.samples import write_samples  # it loads the imaging libraries: not for every command

    chosen = collect_files(files) if files else None
    with _running(data, port, workers) as stack:
        paths = chosen or write_samples(data / "samples")
        name = "your files" if files else "sample: 51 files"
        with Client(stack.url, memory=data / "uploads") as client:
            batch = show.upload(client, paths, {"name": name})
            batch = show.progress(client, batch["id"])
            target = data / f"{batch['id']}_resultados.json"
            client.download_results(batch["id"], target)
        show.summary(batch)
        print(
            f"\nResults:  {target}\nConsole:  {stack.url}\nCtrl-C ends it; `make run` goes on with its data."
        )
        return stack.wait()


class _running:
    """The stack in a data folder: the one that already runs there, or one of our own."""

    def __init__(self, data: Path, port: int | None, workers: int | None) -> None:
        self._data = data
        self._arguments = ["--data", str(data)]
        self._arguments += [] if port is None else ["--port", str(port)]
        self._arguments += [] if workers is None else ["--workers", str(workers)]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> "_running":
        self.url = self._url()
        if not self.url:
            command = [sys.executable, "-m", "tanda.cli", "up", *self._arguments]
            self._process = subprocess.Popen(command)
            self.url = self._wait_ready(self._process)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()

    def wait(self) -> int:
        """Until Ctrl-C, or until the stack ends by itself."""
        if self._process is None:
            return 0
        try:
            return self._process.wait()
        except KeyboardInterrupt:
            return self._process.wait()

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> str:
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise Failed("the stack did not start; its own message is above")
            if url := self._url():
                return url
            time.sleep(POLL_S)
        raise Failed(f"the stack was not ready within {START_S_MAX:.0f} s")

    def _url(self) -> str:
        """The address of a stack that is ready."""
        try:
            facts = Target(data=self._data).run_facts()
            os.kill(facts["supervisor"], 0)
            url = facts["url"]
            ready = httpx2.get(f"{url}/readyz", timeout=2.0, verify=verify_for(url)).is_success
        except (Failed, OSError, KeyError, json.JSONDecodeError, httpx2.TransportError):
            return ""
        return url if ready else ""
