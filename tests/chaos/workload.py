"""People who upload batches and command them, and go on trying while the system is being broken."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

from tanda.client import Client, TandaProblem, TandaUnreachable
from tanda.client.uploads import STILL_RUNNING
from tanda.samples import write_samples
from tests.chaos.faults import BACK_S_MAX
from tests.running import Running, declared_type

#: Batches that a person leaves behind unfinished before waiting for the oldest: something is always to do.
UNFINISHED_MAX = 3
AGAIN_S = 0.2
#: A write that is not answered within this time is asked again, under its key.
ANSWER_S_MAX = 200.0
TRY_S = 20.0
#: A replay through faults waits for servers again and again.
REPLAY_S_MAX = 600.0
#: What a gateway answers that cannot do it now, and may soon: busy with that key, its servers away.
NOT_NOW = (408, 409, 425, 429, 500, 502, 503, 504)
#: What it answers to a command that the batch's state forbids, or that this version does not have.
REFUSED = (404, 405, 409, 422)


class Workload:
    """Batches of two kinds: the samples by their own processors, and many plain files."""

    def __init__(self, stack: Running, folder: Path, seed: int, plain_files: int) -> None:
        """``plain_files``: how many small files for the processor that does nothing go into one batch."""
        self.stack = stack
        self.seed = seed
        self.samples = folder / "samples"
        self.plain = folder / "plain"
        self.samples.mkdir()
        self.plain.mkdir()
        write_samples(self.samples)
        for number in range(plain_files):
            (self.plain / f"{number:04}.txt").write_text(f"file {number}\n" * (number % 200 + 1))
        #: Acknowledged batches and how many files each has.
        self.batches: dict[str, int] = {}
        self.reference: list[str] = []
        self.commands: dict[str, int] = {}
        #: Replays that compared everything, and those that a fault kept from it.
        self.replays: dict[str, int] = {}

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
        unfinished: list[str] = []
        turn = 0
        while go_on():
            turn += 1
            samples = rng.random() < 0.3
            kind = ("auto", self.samples) if samples else ("noop", self.plain)
            # File by file each is an object of its own: many of them would only test the object store.
            upload = self.put if samples and rng.random() < 0.5 else self.post
            batch_id = await upload(f"{self.seed}-{number}-{turn}", *kind)
            unfinished.append(batch_id)
            command = rng.random()
            if command < 0.1:
                await self._slowly(batch_id, "pause", rng)
                await self.command(batch_id, "resume")
                await self._limit(batch_id, None)
            elif command < 0.2:
                await self._slowly(batch_id, "cancel", rng)
            elif command < 0.3 and samples:
                await self.stack.finished(batch_id, ANSWER_S_MAX)
                await self.command(batch_id, "retry", {"status": "failed"})
            if len(unfinished) >= UNFINISHED_MAX:
                await self.stack.finished(unfinished.pop(0), ANSWER_S_MAX)

    async def _slowly(self, batch_id: str, verb: str, rng: random.Random) -> None:
        """A command to a batch that runs one file at a time meanwhile: it comes while there is work."""
        await self._limit(batch_id, 1)
        await asyncio.sleep(rng.uniform(0, 1))
        await self.command(batch_id, verb)
        await asyncio.sleep(rng.uniform(0, 1))

    async def _limit(self, batch_id: str, files: int | None) -> None:
        path = f"/v1/batches/{batch_id}"
        await self._asked(path, f"{batch_id}-{files}", refusals=True, method="PATCH", json={"limit": files})

    async def replayer(self, go_on: Callable[[], bool], every_s: float) -> None:
        """Replays everything beside the live views again and again; a difference ends the run."""
        while go_on():
            await asyncio.sleep(every_s)
            replay = partial(self.stack.tanda, "replay", "--all", "--verify", within_s=REPLAY_S_MAX)
            done = await asyncio.to_thread(replay)
            assert "DIFFERENT" not in done.stdout, f"views differ from the log: {done.stdout}"
            how = "compared" if done.returncode == 0 else "kept from it by a fault"
            self.replays[how] = self.replays.get(how, 0) + 1

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
        """An open batch, filled file by file and sealed by the SDK; begun again where the SDK gives up."""
        paths = sorted(folder.iterdir())

        def upload() -> dict[str, Any] | None:
            with Client(self.stack.url) as client:
                try:
                    return client.upload(paths, name=key, processor=processor)
                except TandaUnreachable:
                    return None
                except TandaProblem as problem:
                    assert problem.status in NOT_NOW, problem
                    return None

        created = await self.stack.until(lambda: asyncio.to_thread(upload), ANSWER_S_MAX)
        self.batches[created["id"]] = len(paths)
        return created["id"]

    async def command(self, batch_id: str, verb: str, body: dict[str, Any] | None = None) -> None:
        """A command; one that the batch's state forbids is the system's right."""
        answer = await self._asked(
            f"/v1/batches/{batch_id}/{verb}", f"{batch_id}-{verb}", refusals=True, json=body
        )
        done = verb if answer.get("status") not in REFUSED else f"{verb} refused"
        self.commands[done] = self.commands.get(done, 0) + 1

    async def _asked(
        self, path: str, key: str, *, refusals: bool = False, method: str = "POST", **body: Any
    ) -> dict[str, Any]:
        last = "no answer"

        async def ask() -> dict[str, Any] | None:
            nonlocal last
            try:
                async with httpx2.AsyncClient(base_url=self.stack.url, timeout=TRY_S) as http:
                    response = await http.request(method, path, headers={"Idempotency-Key": key}, **body)
            except (OSError, ValueError, httpx2.TransportError) as error:
                last = repr(error)
                await asyncio.sleep(AGAIN_S)
                return None
            last = f"{response.status_code} {response.text[:300]}"
            if response.is_success:
                return response.json()
            if refusals and response.status_code in REFUSED and response.json().get("code") != STILL_RUNNING:
                return {"status": response.status_code}
            assert response.status_code in NOT_NOW, f"{path}: {response.status_code} {response.text[:500]}"
            await asyncio.sleep(AGAIN_S)
            return None

        try:
            return await self.stack.until(ask, ANSWER_S_MAX)
        except AssertionError as error:
            raise AssertionError(f"{path} with key {key}: {last}") from error

    async def all_finished(self, within_s: float) -> None:
        for batch_id in self.batches:
            await self.stack.finished(batch_id, max(within_s, BACK_S_MAX))
