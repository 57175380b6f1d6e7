"""The looks that the doctor takes. Each says what it found; none changes anything."""

import msgspec

from tanda.adapters.views.store import ViewStore
from tanda.archive.check import check_log
from tanda.archive.log_archive import ArchiveDamaged
from tanda.archive.records import event_id
from tanda.archive.segments import Segment
from tanda.contracts.times import epoch_ms
from tanda.doctor.findings import Finding, well, wrong
from tanda.doctor.patient import Holdings, Patient
from tanda.domain.errors import LogDamaged

VIEWS = ("batches", "files", "stats")
#: A view this far behind a log that stands still is worth a word.
BEHIND_EVENTS = 1_000
#: The archiver is behind by seconds; longer than this, nobody archives.
UNARCHIVED_MS = 120_000
ABOUT_MAX = 20

RESTORE = "Stop Tanda, then `tanda replay --from-archive` restores it."
REPLAY = "`tanda replay --all` builds them again."


async def nats(patient: Patient) -> list[Finding]:
    await patient.connection.board.ensure()
    return [well("nats", "JetStream answers")]


async def s3(patient: Patient) -> list[Finding]:
    await patient.blobs.ready()
    return [well("s3", f"bucket {patient.settings.s3_bucket} answers")]


async def log(patient: Patient) -> list[Finding]:
    """Positions 1..N without a gap, at least as many as archived, the same event at the archive's end."""
    facts = await patient.facts()
    chain = await patient.archive.chain()
    if facts.last < chain.last:
        what = f"The log ends at {facts.last}" if facts.exists else "The log is gone"
        says = f"{what}, but its archive goes to {chain.last}: {chain.last - facts.last} events are missing."
        return [wrong("log", "log_went_back", says, RESTORE, mendable=True)]
    if not facts.gapless:
        says = f"The log has {facts.messages} events up to position {facts.last}: it has gaps."
        return [wrong("log", "log_gap", says, RESTORE, mendable=chain.last > 0)]
    try:
        await check_log(patient.raw, patient.archive)
    except LogDamaged as damage:
        return [wrong("log", "log_differs", f"The log is not what it was: {damage}.", RESTORE, mendable=True)]
    except ArchiveDamaged:
        pass  # the archive's own check tells
    return [well("log", f"{facts.last} events without a gap")]


async def archive(patient: Patient, *, deep: bool) -> list[Finding]:
    """The chain is whole and close to the log's end; deep: so is every segment."""
    facts, chain = await patient.facts(), await patient.archive.chain()
    found: list[Finding] = []
    do = "`tanda doctor --repair` archives those positions again, as long as the log has them."
    if chain.detached:
        first, last = chain.last + 1, max(one.last for one in chain.detached)
        says = f"The archive's chain is broken: it is whole up to {chain.last}, and has parts up to {last}."
        found.append(wrong("archive", "archive_broken", says, do, mendable=facts.last >= first))
    for segment in await damaged_segments(patient, chain.segments if deep else chain.segments[-1:]):
        says = f"The archive's segment {segment.first}-{segment.last} is not what it was."
        found.append(wrong("archive", "archive_damaged", says, do, mendable=facts.last >= segment.last,
                           about=[segment.key]))  # fmt: skip
    if not found and (waited_ms := await _unarchived_ms(patient, facts.last, chain.last)) > UNARCHIVED_MS:
        says = f"{facts.last - chain.last} events are not archived, the oldest for {waited_ms // 1000} s."
        do = "Does the storage service run? `tanda doctor --repair` archives them now."
        found.append(wrong("archive", "archive_behind", says, do, mendable=True))
    whole = "every segment is whole" if deep else "--deep reads every segment"
    return found or [well("archive", f"{chain.last} of {facts.last} events are archived; {whole}")]


async def damaged_segments(patient: Patient, segments: list[Segment]) -> list[Segment]:
    """Those whose bytes are not what their key promises."""
    damaged: list[Segment] = []
    for one in segments:
        try:
            await patient.archive.segment(one)
        except ArchiveDamaged:
            damaged.append(one)
    return damaged


async def _unarchived_ms(patient: Patient, last: int, archived: int) -> int:
    """How long the oldest event that is not archived has been in the log."""
    if last <= archived:
        return 0
    oldest = await patient.raw.get(archived + 1)
    return 0 if oldest is None else patient.now_ms - oldest.time_ns // 1_000_000


async def views(patient: Patient, *, deep: bool) -> list[Finding]:
    """At the log's position and of its history; deep: row by row what a replay gives."""
    last = (await patient.facts()).last
    store = ViewStore(patient.pool)
    found: list[Finding] = []
    for view in VIEWS:
        checkpoint = await store.checkpoint(view)
        if checkpoint is None:
            says = f"The view {view} is not there."
            found.append(wrong("views", "view_missing", says, "The projector builds it.", mendable=True))
            continue
        if checkpoint.seq > last:
            says = f"The view {view} is at {checkpoint.seq}, but the log ends at {last}: the log went back."
            found.append(wrong("views", "view_ahead", says, RESTORE, mendable=True))
            continue
        record = await patient.raw.get(checkpoint.seq) if checkpoint.seq else None
        if record is not None and event_id(record) != checkpoint.event_id:
            says = f"The view {view} had seen another event at {checkpoint.seq}: the log is not what it was."
            found.append(wrong("views", "view_of_other_log", says, RESTORE, mendable=True))
        elif last - checkpoint.seq > BEHIND_EVENTS:
            says = f"The view {view} is {last - checkpoint.seq} events behind the log."
            # A replay goes as far as the live view has come: only the projector brings it further.
            do = "Does the projector run? It goes on from there by itself; look at its log, or start Tanda."
            found.append(wrong("views", "view_behind", says, do))
    if not found and deep:
        found = await _different(patient)
    return found or [well("views", f"up with the log at {last}; " + _compared(deep=deep))]


def _compared(*, deep: bool) -> str:
    return "row by row what a replay gives" if deep else "--deep compares them row by row with a replay"


async def _different(patient: Patient) -> list[Finding]:
    code, out, err = await patient.replay("--all", "--verify", "--json")
    if not out:
        return [wrong("views", "view_unverified", f"The views could not be compared: {err.strip()}", REPLAY)]
    found: list[Finding] = []
    for one in msgspec.json.decode(out):
        if code and one["identical"] is False:
            names = [f"{each['table']} {each['key']} {each['column']}" for each in one["differences"]]
            says = f"The view {one['view']} differs from what the log says."
            found.append(
                wrong("views", "view_different", says, REPLAY, mendable=True, about=names[:ABOUT_MAX])
            )
    return found


async def objects(patient: Patient, holdings: Holdings, running: list[str]) -> list[Finding]:
    """Whatever the log names is there, and what is there the log names."""
    there = {one.key: one.bytes for one in holdings.there}
    missing = holdings.inventory.missing(there)
    lost = [
        f"{key} ({whose})"
        for key, (bytes_min, whose) in missing.items()
        if not await _is_there(patient, key, bytes_min)
    ]
    found: list[Finding] = []
    if lost:
        says = f"{len(lost)} objects that the log names are missing or too short."
        do = "--repair brings back result documents, and sources that have a copy; retry the files of others."
        found.append(wrong("objects", "object_missing", says, do, mendable=True, about=lost[:ABOUT_MAX]))
    if orphaned := orphans(patient, holdings):
        sizes = sum(there[key] for key in orphaned)
        says = f"{len(orphaned)} objects of {sizes} bytes are named by no event and over an hour old."
        do = "`tanda doctor --repair` removes them" + ("; stop Tanda first." if running else ".")
        found.append(
            wrong("objects", "object_orphaned", says, do, mendable=not running, about=orphaned[:ABOUT_MAX])
        )
    return found or [well("objects", f"{len(holdings.inventory.required())} objects are where the log says")]


def orphans(patient: Patient, holdings: Holdings) -> list[str]:
    """What no event names, past the grace."""
    listed = ((one.key, one.modified_ms) for one in holdings.there)
    return holdings.inventory.orphans(listed, patient.now_ms)


async def _is_there(patient: Patient, key: str, bytes_min: int) -> bool:
    """Asked again: it may have been put after the listing."""
    stat = await patient.blobs.stat(key)
    return stat is not None and stat.bytes >= bytes_min


async def work(patient: Patient, holdings: Holdings, running: list[str]) -> list[Finding]:
    """While workers run, nothing that could go on stands still."""
    if "worker" not in running:
        return [well("work", "no worker runs, so nothing is expected to go on")]
    status = await patient.connection.board.scheduler()
    if status is None:
        says = "Workers run, but none of them schedules."
        return [wrong("work", "no_scheduler", says, "Look at the workers' logs; restart them.")]
    late = holdings.inventory.stuck(patient.now_ms, status.reasons)
    if late:
        files = sum(map(len, late.values()))
        says = f"{files} files of {len(late)} batches have stood still for over ten minutes."
        do = "--repair takes them off the work queue; the scheduler releases them again within seconds."
        about = [batch_id for _, batch_id in late][:ABOUT_MAX]
        return [wrong("work", "work_stuck", says, do, mendable=True, about=about)]
    behind_ms = patient.now_ms - epoch_ms(status.at)
    return [well("work", f"{status.leader} schedules, its last word is {max(behind_ms, 0) // 1000} s old")]
