"""What the doctor mends. Every repair may be broken off and done again, and none invents anything."""

from collections.abc import Sequence

from tanda.archive.log_archive import ArchiveWriter
from tanda.doctor.checks import damaged_segments, orphans
from tanda.doctor.findings import Finding
from tanda.doctor.patient import Holdings, Patient
from tanda.domain.errors import Refusal, TandaError
from tanda.domain.settling import archive_key
from tanda.results import ResultLost, ResultsCache

_LOG = frozenset({"log_went_back", "log_gap", "log_differs", "view_ahead", "view_of_other_log"})
_VIEWS = frozenset({"view_missing", "view_different"})
_ARCHIVE = frozenset({"archive_broken", "archive_damaged", "archive_behind"})


async def mend(patient: Patient, findings: Sequence[Finding]) -> None:
    """Mends what of these can be mended, the log first: everything else is made from it.

    Refusal where the log is damaged and services run, which would write meanwhile.
    """
    codes = {one.code for one in findings if one.mendable}
    running = await patient.running()
    if codes & _LOG:
        if running:
            raise Refusal(
                "services_running",
                f"The log is damaged and {', '.join(running)} run: stop Tanda, then --repair restores it.",
            )
        await _replayed(patient, "--from-archive")
    elif codes & _VIEWS:
        await _replayed(patient, "--all")
    if codes & _ARCHIVE:
        await _archive(patient)
    if codes & {"object_missing", "object_orphaned", "work_stuck"}:
        holdings = await patient.holdings()
        if "object_missing" in codes:
            await _bring_back(patient, holdings)
        if "object_orphaned" in codes and not running:
            await _remove_orphans(patient, holdings)
        if "work_stuck" in codes:
            status = await patient.connection.board.scheduler()
            explained = status.reasons if status else ()
            for tenant, batch_id in holdings.inventory.stuck(patient.now_ms, explained):
                await patient.connection.work.drop(tenant, batch_id)


async def _replayed(patient: Patient, argument: str) -> None:
    code, _, err = await patient.replay(argument)
    if code:
        raise Refusal("replay_failed", err.strip().rpartition("\n")[2] or f"the replay ended with {code}")


async def _archive(patient: Patient) -> None:
    """From where the chain is whole and readable, on to the log's end."""
    chain = await patient.archive.chain()
    await patient.archive.forget(await damaged_segments(patient, chain.segments))
    writer = ArchiveWriter(patient.raw, patient.archive)
    await writer.begin()
    await writer.advance_to_end()
    chain = await patient.archive.chain()
    await patient.archive.forget([*chain.superseded, *chain.detached])


async def _bring_back(patient: Patient, holdings: Holdings) -> None:
    """Result documents are built from the log; a source is copied from where it also is."""
    there = {one.key: one.bytes for one in holdings.there}
    missing = holdings.inventory.missing(there)
    for key, (bytes_min, _) in missing.items():
        if (twin := _twin(key, bytes_min, there)) is not None:
            await patient.blobs.copy(twin, key)
    patient.spool.mkdir(parents=True, exist_ok=True)
    cache = ResultsCache(patient.connection.log, patient.blobs, patient.spool)
    for (tenant, batch_id), batch in holdings.inventory.batches.items():
        done = batch.results
        if done is not None and done.results.key in missing:
            try:
                await cache.open(tenant, batch_id, done.version, done.through_seq, done.results)
            except (ResultLost, TandaError):
                continue  # the next look tells that it is still missing
    await patient.blobs.barrier()


def _twin(key: str, bytes_min: int, there: dict[str, int]) -> str | None:
    """The same object under its other name: a source that is archived, or not yet removed."""
    names = [archive_key(key), *([key.replace("/archive/", "/src/")] if "/archive/" in key else [])]
    return next((one for one in names if one is not None and there.get(one, -1) >= bytes_min), None)


async def _remove_orphans(patient: Patient, holdings: Holdings) -> None:
    """Nobody else is at work. Each is looked at once more: one that was put again since stays."""
    listed = {one.key: one for one in holdings.there}
    for key in orphans(patient, holdings):
        if await patient.blobs.stat(key) == listed[key]:
            await patient.blobs.delete(key)
