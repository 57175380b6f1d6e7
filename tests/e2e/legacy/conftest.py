"""One running Tanda, and one outside provider, for what the five older systems' documents promise.

Processes are killed here, so the stack is of this folder's own. Each test has a tenant of its own.
"""

import asyncio
import io
import json
import os
import random
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from PIL import Image

from tanda.adapters.s3 import S3Blobs
from tanda.settings import from_environment
from tests.provider import Answer, Provider, Seen, provider
from tests.running import POLL_S, Running, running

SOON_S = 30.0
#: The provider works elsewhere and confirms when a test says so.
LATER: Answer = (202, {}, b"")
NEVER = "2099-01-01T00:00:00Z"


@dataclass
class Older:
    """What an older front end meets: the stack, and the provider behind the ``http`` processor."""

    stack: Running
    #: By a file's name: what the provider answers; ``LATER`` where it is not named.
    script: dict[str, Callable[[Seen], Answer]] = field(default_factory=dict)
    provider: Provider = field(init=False)

    def answer(self, seen: Seen) -> Answer:
        return self.script.get(_name(seen), lambda _: LATER)(seen)

    @asynccontextmanager
    async def http(self, tenant: str) -> AsyncGenerator[httpx2.AsyncClient]:
        async with self.stack.http(tenant) as http:
            yield http

    async def calls(self, name: str, count: int = 1) -> list[Seen]:
        """The provider's calls about a file, once there are so many."""

        def made() -> list[Seen] | None:
            found = [seen for seen in self.provider.calls if _name(seen) == name]
            return found if len(found) >= count else None

        return await self.stack.until(made, SOON_S)

    async def confirm(self, name: str, **result: Any) -> None:
        """The provider's word that the work on a file is done."""
        url = (await self.calls(name))[-1].headers["tanda-callback"]
        async with httpx2.AsyncClient(timeout=30) as http:
            answer = await http.post(url, json={"status": "completed", "result": result})
        assert answer.status_code == 202, answer.text

    async def events(self, batch_id: str, *kinds: str) -> list[dict[str, Any]]:
        """A batch's events in the log's order, of these kinds or all."""
        found, page = list[dict[str, Any]](), {"next_cursor": "0", "has_more": True}
        async with self.stack.http() as http:
            while page["has_more"]:
                query = {"after": page["next_cursor"], "limit": 1000}
                page = (await http.get(f"/v1/batches/{batch_id}/events", params=query)).json()
                found += page["data"]
        return [one for one in found if not kinds or one["type"].split(".")[1] in kinds]

    def logged(self, service: str, sentence: str) -> list[dict[str, Any]]:
        """A service's log lines of that sentence, of the process that runs now."""
        text = (self.stack.data / "logs" / f"{service}.log").read_text(errors="replace")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == sentence]

    @asynccontextmanager
    async def store(self) -> AsyncGenerator[S3Blobs]:
        """The object store itself, to damage it."""
        facts = self.stack.facts()["s3"]
        blobs = S3Blobs(from_environment({f"TANDA_S3_{key.upper()}": facts[key] for key in facts}))
        try:
            yield blobs
        finally:
            await blobs.close()

    @asynccontextmanager
    async def store_down(self) -> AsyncGenerator[None]:
        """The object store killed, and killed again whenever it is started, for the length of the block."""

        async def kill_for_ever() -> None:
            while True:
                for pid in self.stack.facts()["pids"]["s3"]:
                    with suppress(ProcessLookupError, FileNotFoundError):
                        # The file may name one that is gone already, and its number may be another's by now.
                        if str(self.stack.data) in Path(f"/proc/{pid}/cmdline").read_text():
                            os.kill(pid, signal.SIGKILL)
                await asyncio.sleep(POLL_S)

        killing = asyncio.create_task(kill_for_ever())
        try:
            yield
        finally:
            killing.cancel()


def _name(seen: Seen) -> str:
    return unquote(seen.headers["tanda-file-name"])


@pytest.fixture(scope="package")
async def older(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Older]:
    """One file at a time, so that a queue has an order; little patience, so that an outage is felt."""
    folder = tmp_path_factory.mktemp("older")
    folder.chmod(0o711)
    stack = Running(folder / "data")
    one = Older(stack)
    async with provider(one.answer) as one.provider:
        env = {
            "TANDA_SLOTS": "1",
            "TANDA_PATIENCE_S": "1",
            "TANDA_HTTP_ENDPOINTS": f"publisher={one.provider.url},limited={one.provider.url}",
        }
        async with running(folder / "data", env=env) as one.stack:
            yield one


def picture(number: int) -> bytes:
    """A small picture that no other number has; noise, so that a thumbnail of it is worth making."""
    image = Image.frombytes("RGB", (64, 64), random.Random(number).randbytes(64 * 64 * 3))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def table(number: int) -> bytes:
    return b"concepto;importe\npapel;%d\n" % number


def parts(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    """Files for a form, as ``curl -F files=@…`` sends them."""
    return [("files", file) for file in files]


async def create(http: httpx2.AsyncClient, *files: tuple[str, bytes], **form: Any) -> dict[str, Any]:
    """A batch by ``POST /v1/batches``; JSON fields are given as they are."""
    data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in form.items()}
    answer = await http.post("/v1/batches", files=parts(*files), data=data)
    assert answer.status_code == 201, answer.text
    return answer.json()


#: The form fields with which a file goes to the provider.
OUTSIDE: dict[str, Any] = {"processor": "http", "options": {"endpoint": "publisher"}}


async def begin(http: httpx2.AsyncClient, batch_id: str) -> None:
    """Lets a batch begin that was to start at ``NEVER``."""
    answer = await http.patch(f"/v1/batches/{batch_id}", json={"start_at": None})
    assert answer.status_code == 202, answer.text


async def gathered(calls: Sequence[Any]) -> list[httpx2.Response]:
    return list(await asyncio.gather(*calls))
