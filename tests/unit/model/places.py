"""Where the scheduler has every file and group, compared with what the log says of them."""

from tanda.domain.scheduling.backlog import Backlog, FileEntry
from tanda.domain.scheduling.fair import FairScheduler
from tests.unit.model.shadow import FileKey, Shadow


def check_places(scheduler: FairScheduler, seen: Shadow) -> None:
    """It knows every file that is under way, where it is, and no other; the same of groups."""
    backlog = scheduler._backlog
    known = {
        (batch.batch_id, file_id): file
        for batch in backlog.batches.values()
        for file_id, file in batch.files.items()
    }
    assert {key: file.status for key, file in known.items()} == {
        key: seen.files[key].status for key in seen.live()
    }
    queued = {
        (batch.batch_id, file_id)
        for batch in backlog.batches.values()
        for queue in batch.queues.values()
        for file_id in queue
    }
    flying = {(batch_id, file_id) for _, batch_id, file_id in backlog.flying}
    parting = {(key[1], group) for key, group in backlog.parting}
    resting = {
        key
        for key, file in known.items()
        if file.doomed or file.status in ("retrying", "waiting") or (key[0], file.group) in parting
    }
    assert queued | flying | resting == set(known)
    assert len(queued) + len(flying) + len(resting) == len(known), "a file in two places"
    assert (len(queued), len(flying)) == (scheduler.unreleased(), scheduler.in_flight())
    _check_groups(backlog, seen, known, [queued, flying, resting])


def _check_groups(
    backlog: Backlog, seen: Shadow, known: dict[FileKey, FileEntry], places: list[set[FileKey]]
) -> None:
    assert {key: file.group for key, file in known.items() if file.group} == seen.group_of
    groups = {
        (batch.batch_id, token): group
        for batch in backlog.batches.values()
        for token, group in batch.groups.items()
    }
    assert {key: (group.seq, group.files) for key, group in groups.items()} == seen.groups
    for (batch_id, token), group in groups.items():
        members = {(batch_id, one) for one in group.files}
        assert any(members <= place for place in places), f"{token} of {batch_id} is torn"
    parting = {(key[1], group) for key, group in backlog.parting}
    assert parting == {key for key, group in groups.items() if group.parting}
