"""A whole stack that can be cut off, filled up and made to believe another time."""

import contextlib
import json
import os
import subprocess
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

from tests.chaos.proxy import Proxies
from tests.house.sources import ROOT
from tests.running import Running

#: Disks of their own for these, where this machine lets us mount one.
DISKS = {"nats": os.environ.get("CHAOS_LOG_DISK", "768m"), "s3": "2g"}
#: Left free of a full disk by nobody: files are made ever smaller until none fits.
FILL_BYTES = (64 * 1024**2, 1024**2, 4096)


class ChaosStack(Running):
    """``Running`` by ``tests.chaos.up``."""

    def __init__(self, data: Path, *, workers: int) -> None:
        self.proxies = Proxies(data)
        #: What this machine does not allow, and why.
        self.lacking: dict[str, str] = {}
        self._mounted: list[Path] = []
        super().__init__(data, workers=workers, module="tests.chaos.up")

    def prepare(self) -> None:
        self.proxies.start()
        self.data.mkdir(mode=0o711)
        self._env |= {"CHAOS_PROXIES": json.dumps(self.proxies.ports()), "PYTHONPATH": str(ROOT)}
        self._mount()

    def _mount(self) -> None:
        for name, size in DISKS.items():
            place = self.data / name
            place.mkdir(mode=0o700)
            command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except OSError as error:
                self.lacking["full"] = str(error)
                return
            if done.returncode:
                self.lacking["full"] = done.stderr.strip() or "mount is not allowed"
                return
            self._mounted.append(place)

    def unmount(self) -> None:
        self.proxies.stop()
        for place in self._mounted:
            subprocess.run(["umount", "-l", str(place)], check=False)

    @contextlib.contextmanager
    def full(self, name: str) -> Generator[None]:
        """No byte more on a server's disk, for a while."""
        place = self.data / name
        fillers: list[Path] = []
        try:
            for size in FILL_BYTES:
                with contextlib.suppress(OSError):
                    while True:
                        filler = place / f"filler-{len(fillers)}"
                        fillers.append(filler)
                        with filler.open("wb") as file:
                            os.posix_fallocate(file.fileno(), 0, size)
            yield
        finally:
            for filler in fillers:
                filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def clock(self, service: str, step: str) -> Generator[None]:
        """The wall clock of a service is stepped, and stepped back."""
        clock = self.data / f"clock-{service}"
        clock.write_text(step)
        try:
            yield
        finally:
            clock.write_text("0")


@contextlib.asynccontextmanager
async def chaos_stack(data: Path, workers: int) -> AsyncGenerator[ChaosStack]:
    """A stack for the length of the block."""
    stack = ChaosStack(data, workers=workers)
    try:
        stack.prepare()
        await stack.start()
        yield stack
    finally:
        await stack.stop()
        stack.unmount()
