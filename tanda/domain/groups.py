"""Groups of files: several files of one upload whose first events, and quick outcomes, are told at once.

An event a file costs the log, its memory and every reader the same whether the file takes a second or a
microsecond. Files of a large upload are therefore queued a hundred at a time. A group's life is short and has
one way::

    FilesQueued ──▶ FilesCompleted      quick work, and every file of it has its result
               └──▶ FilesParted         anything else: a failure, a lost worker, a limit, a cancel

each on the group's subject, on top of the one before. While a group is whole nobody writes an event of one
of its files; after either end a file's own subject begins, with position 0 as the expected one. So of two
outcomes of a file one stands, as where it has always been alone.
"""

from collections.abc import Iterable
from typing import Final

from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.codec import encode
from tanda.contracts.subjects import group_token

#: A group holds the files of so many successive places in an upload. It never changes: a file's id tells its
#: place, and so the group that the log has it in.
GROUP_FILES: Final = 100
#: Of a smaller batch each file is told by itself: it is not the log's trouble, and is worked on alone anyway.
BATCH_FILES_MIN: Final = 17
#: Of a group's event; an event of the log may have twice as much.
GROUP_BYTES_MAX: Final = 128 * 1024


def together(files: Iterable[tuple[str, e.Event]]) -> list[tuple[str, e.Event]]:
    """The first events of a whole batch's files, each with its file's id: the same with those in groups.

    What is put together has a group's token in place of the id. The same files give the same groups.
    """
    found = list(files)
    if len(found) < BATCH_FILES_MIN:
        return found
    groups: dict[int, list[tuple[str, e.FileQueued]]] = {}
    told: list[tuple[str, e.Event] | int] = []
    for file_id, event in found:
        if not isinstance(event, e.FileQueued):
            told.append((file_id, event))
            continue
        number = event.index // GROUP_FILES
        if number not in groups:
            groups[number] = []
            told.append(number)
        groups[number].append((file_id, event))
    events: list[tuple[str, e.Event]] = []
    for place in told:
        events += _group(place, groups[place]) if isinstance(place, int) else [place]
    return events


def group_of(file_id: str) -> str:
    """The token of the only group that may have told a file's first events; there need not be one."""
    return group_token(ids.index_in(file_id) // GROUP_FILES)


def _group(number: int, files: list[tuple[str, e.FileQueued]]) -> list[tuple[str, e.Event]]:
    event = e.FilesQueued(files=files)
    if len(files) < 2 or len(encode(event)) > GROUP_BYTES_MAX:
        return list(files)
    return [(group_token(number), event)]


def completed(files: list[tuple[str, e.FileCompleted]]) -> e.FilesCompleted | None:
    """The outcome of a whole group; None where it is too large for one event."""
    event = e.FilesCompleted(files=files)
    return event if len(encode(event)) <= GROUP_BYTES_MAX else None
