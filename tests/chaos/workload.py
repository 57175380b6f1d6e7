"""People who upload batches and command them, and go on trying while the system is being broken."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from tanda.client import Client
from tanda.client.uploads import STILL_RUNNING
from tanda.samples import write_samples
from tests.chaos.faults import BACK_S_MAX
from tests.running import Running, declared_type

#: Small files for the processor that does nothing, in one batch.
PLAIN_FILES = 200
AGAIN_S = 0.2
#: A write that is not answered within this time is asked again, under its key.
ANSWER_S_MAX = 300.0
TRY_S = 20.0
#: What a gateway answers that cannot do it now, and may soon: busy with that key, its servers away.
NOT_NOW = (409, 425, 429, 500, 502, 503, 504)
#: What it answers to a command that the batch's state forbids, or that this version does not have.
REFUSED = (404, 405, 409, 422)


class Workload:
    """Batches of two kinds: the samples by their own processors, and many plain files."""

    def __init__(self, stack: Running, folder: Path, seed: int) -> None:
        self.stack = stack
        self.seed = seed
        self.samples = folder / "samples"
        self.plain = folder / "plain"
        self.samples.mkdir()
        self.plain.mkdir()
        write_samples(self.samples)
        for number in range(PLAIN_FILES):
            (self.plain / f"{number:03}.txt").write_text(f"file {number}\n" * (number + 1))
        #: Acknowledged batches and how many files each has.
        self.batches: dict[str, int] = {}
        self.reference: list[str] = []
        self.commands: dict[str, int] = {}

    @property
    def files(self) -> int:
        return sum(self.batches.values())

    async def refer(self) -> None:
        """One undisturbed batch of each kind: what the others are compared with."""
        for processor, folder in (("auto", self.samples), ("noop", self.plain)):
            batch_id = await self.post(f"reference-{self.seed}-{processor}", processor, folder)
            await self.stack.finished(batch_id)
            self.reference.append(batch_id)

    async def person(self, number: int, go_on: Callable[[], bool]) -> None:
        """Uploads one batch after another, and commands some of them."""
        rng = random.Random(f"{self.seed}/{number}")
        turn = 0
        while go_on():
            turn += 1
            kind = ("noop", self.plain) if rng.random() < 0.7 else ("auto", self.samples)
            upload = self.post if rng.random() < 0.5 else self.put
            batch_id = await upload(f"{self.seed}-{number}-{turn}", *kind)
            command = rng.random()
            if command < 0.15:
                await self.command(batch_id, "pause")
                await asyncio.sleep(rng.uniform(0, 2))
                await self.command(batch_id, "resume")
            elif command < 0.25:
                await asyncio.sleep(rng.uniform(0, 2))
                await self.command(batch_id, "cancel")
            if number == 0 or rng.random() < 0.5:
                await self.stack.finished(batch_id, ANSWER_S_MAX)
            if command < 0.05:
                await self.command(batch_id, "retry", {"status": "failed"})

    async def post(self, key: str, processor: str, folder: Path) -> str:
        """One multipart request, repeated under its key until it is answered."""
        paths = sorted(folder.iterdir())
        parts = [("files", (path.name, path.read_bytes(), declared_type(path))) for path in paths]
        created = await self._asked(
            "/v1/batches", key, files=parts, data={"name": key, "processor": processor}
        )
        self.batches[created["id"]] = len(paths)
        return created["id"]

    async def put(self, key: str, processor: str, folder: Path) -> str:
        """An open batch, filled file by file and sealed by the SDK."""
        paths = sorted(folder.iterdir())

        def upload() -> dict[str, Any]:
            with Client(self.stack.url) as client:
                return client.upload(paths, name=key, processor=processor)

        created = await asyncio.to_thread(upload)
        self.batches[created["id"]] = len(paths)
        return created["id"]

    async def command(self, batch_id: str, verb: str, body: dict[str, Any] | None = None) -> None:
        """A command; one that the batch's state forbids is the system's right."""
        answer = await self._asked(
            f"/v1/batches/{batch_id}/{verb}", f"{batch_id}-{verb}", refusals=True, json=body
        )
        done = verb if answer.get("status") not in REFUSED else f"{verb} refused"
        self.commands[done] = self.commands.get(done, 0) + 1

    async def _asked(self, path: str, key: str, *, refusals: bool = False, **body: Any) -> dict[str, Any]:
        async def ask() -> dict[str, Any] | None:
            try:
                async with httpx2.AsyncClient(base_url=self.stack.url, timeout=TRY_S) as http:
                    response = await http.post(path, headers={"Idempotency-Key": key}, **body)
            except (OSError, ValueError, httpx2.TransportError):
                await asyncio.sleep(AGAIN_S)
                return None
            if response.is_success:
                return response.json()
            if refusals and response.status_code in REFUSED and response.json().get("code") != STILL_RUNNING:
                return {"status": response.status_code}
            assert response.status_code in NOT_NOW, f"{path}: {response.status_code} {response.text[:500]}"
            await asyncio.sleep(AGAIN_S)
            return None

        return await self.stack.until(ask, ANSWER_S_MAX)

    async def all_finished(self, within_s: float) -> None:
        for batch_id in self.batches:
            await self.stack.finished(batch_id, max(within_s, BACK_S_MAX))
