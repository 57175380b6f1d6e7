"""The golden vectors of the console's store: events, and the bodies that the projector's folds make of them.

``console/test/store.test.ts`` folds the same events in the browser's language and has to come to the same
bodies. Written by ``python -m tests.house.console_vectors``; kept current by ``test_console_build``.
"""

import asyncio
import json
from typing import Any

import msgspec

from services.projector.catalog import VIEWS
from tanda.adapters.memory import MemoryLog
from tanda.adapters.memory.views import MemoryViews
from tanda.contracts import codec
from tanda.contracts.envelope import Recorded, singly, to_cloudevent
from tanda.contracts.http import BatchQuery, FileQuery
from tanda.contracts.times import epoch_ms
from tests.builders import RandomBatches
from tests.house.sources import ROOT

VECTORS = ROOT / "console" / "test" / "vectors.json"
SEEDS = range(1, 6)
EVENTS = 120
#: How long after the last event the bodies are read; what is left of a batch depends on it.
READ_AFTER_MS = 2_000


async def _vector(seed: int) -> dict[str, Any]:
    log = MemoryLog()
    random = RandomBatches(log, seed, batches_max=3, files_max=6)
    await random.run(EVENTS)
    records = [record async for chunk in log.read() for record in chunk]
    now_ms = epoch_ms(records[-1].time) + READ_AFTER_MS
    middle = records[len(records) // 2].seq
    return {
        "seed": seed,
        "now_ms": now_ms,
        "events": [_plain(to_cloudevent(record)) for record in singly(records)],
        # A page is opened in the middle of a life: what it reads then and the events after it make the same.
        "middle": {"seq": middle, **await _bodies(records[:middle], now_ms)},
        "end": await _bodies(records, now_ms),
    }


async def _bodies(records: list[Recorded], now_ms: int) -> dict[str, Any]:
    views = MemoryViews(_Told(records), VIEWS.values(), lambda: now_ms)
    batches = (await views.batches(None, BatchQuery(limit=200))).found.data
    pages = [(await views.files(None, batch.id, FileQuery(limit=200))).found for batch in batches]
    files = [page.data for page in pages if page]
    return {
        "batches": [_plain(batch) for batch in batches],
        "files": [_plain(f) for page in files for f in page],
    }


class _Told(MemoryLog):
    """A log of events that were written before."""

    def __init__(self, records: list[Recorded]) -> None:
        super().__init__()
        self._events = list(records)


def _plain(value: Any) -> Any:
    return msgspec.json.decode(codec.encode(value))


async def _all() -> list[dict[str, Any]]:
    return [await _vector(seed) for seed in SEEDS]


def vectors() -> str:
    """The file's text."""
    return json.dumps(asyncio.run(_all()), ensure_ascii=True, separators=(",", ":"), sort_keys=True) + "\n"


if __name__ == "__main__":
    VECTORS.write_text(vectors(), encoding="utf-8")
