"""Invoices through the whole system, each read in the sandbox: what a user's batch is like."""

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_hex

import httpx2

from bench.ingest.upload import BOUNDARY, field, head
from tanda.samples import sample_truth, write_samples
from tests.running import Running

FILES = 2_000


async def run(stack: Running, files: int) -> dict[str, float]:
    """``ours`` in files/s, from the upload's answer to ``BatchCompleted``."""
    del files
    async with httpx2.AsyncClient(base_url=stack.url, timeout=600) as http:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        response = await http.post("/v1/batches", content=body(), headers=headers)
        assert response.status_code == 201, response.text
        begun = time.perf_counter()
        batch = await stack.finished(response.json()["id"], 600)
    taken = time.perf_counter() - begun
    assert batch["counts"]["completed"] == FILES, batch["counts"]
    return {"ours": FILES / taken}


async def body() -> AsyncIterator[bytes]:
    """The bundled samples' XML invoices again and again, each with a comment of its own."""
    truths = sample_truth()
    with tempfile.TemporaryDirectory() as folder:
        samples = [
            path.read_bytes()
            for path in write_samples(Path(folder))
            if path.suffix == ".xml" and truths[path.name]["status"] == "completed"
        ]
    own = token_hex(4)
    yield field("processor", "auto")
    for number in range(FILES):
        comment = f"<!-- {own} {number} -->\n".encode()
        yield head(f"{number:06d}.xml") + samples[number % len(samples)] + comment + b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()
