"""What must hold after an outage, whatever happened in it."""

from collections import Counter
from hashlib import sha256
from typing import Any

from tests.chaos.invariants import OUTCOMES, check
from tests.running import Running


async def aftermath(stack: Running, batch_id: str, files: int) -> dict[str, Any]:
    """Every invariant, the doctor's deep look, and the result JSON as it is downloaded; figures to tell."""
    await stack.until(stack.is_ready, 60)
    events = await check(stack, [batch_id])
    mine = [one for one in events if one.batch_id == batch_id and one.file_id]
    last = Counter({one.file_id: one.name for one in mine}.values())
    assert sum(last[name] for name in OUTCOMES) == files == last.total(), last
    lost = [one.file_id for one in mine if one.data.get("error", {}).get("code") == "worker_lost"]
    assert not lost, f"given up because their workers were killed: {lost}"
    doctor = stack.tanda("doctor", "--deep")
    assert doctor.returncode == 0, doctor.stdout
    batch = await stack.batch(batch_id)
    assert batch is not None
    async with stack.http() as http:
        document = await http.get(batch["results"]["url"])
    assert sha256(document.content).hexdigest() == batch["results"]["sha256"]
    assert len(document.content) == batch["results"]["bytes"]
    stated = Counter(f"File{one['estado'].capitalize()}" for one in document.json()["archivos_procesados"])
    assert stated == last, "the document says otherwise than the log"
    again = sum(one.name == "FileStarted" and one.data["delivery"] > 1 for one in mine)
    return {"events": len(events), **last, "started again": again, "status": batch["status"]}
