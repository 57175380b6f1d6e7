"""What a file is expected to cost beside the others of its batch, so that a time left takes kinds unalike.

A photograph takes as long as dozens of invoices, and files come sorted by kind: a rate by the number of files
is off by several times. Only proportions count, so that the machine does not matter. The estimate is told
with the file (``FileQueued.effort``) and again with its outcome: whoever adds up needs no table, and
other numbers here change nothing that is in the log.
"""

from typing import Final

import msgspec

from tanda.contracts import events as e

_MIB: Final = 1024 * 1024


class Cost(msgspec.Struct, frozen=True):
    """Milliseconds that a file takes: in any case, and for each MiB up to so many bytes."""

    file_ms: int
    mib_ms: int
    bytes_max: int = 2**63


#: What its child takes of CPU, measured on the files of ``tanda.samples`` and on 120 real ones, and 15 ms for
#: what is around it; with 13 to 18 the time left of 112 mixed batches was told best. November 2026.
#: A PDF is drawn up to its third page and a picture is looked at up to a size: more bytes take no longer.
COSTS: Final = {
    "invoice": Cost(17, 150),
    "table": Cost(17, 800),
    "pdf": Cost(60, 300, 300 * 1024),
    "image": Cost(27, 900, 800 * 1024),
}
#: Files of any other processor count alike: a batch has either the ones above or one that it names.
EFFORT_ALIKE: Final = 1


def expected_effort(processor: str, size_bytes: int) -> int:
    """What a file is expected to cost, in milliseconds; 1 at least."""
    cost = COSTS.get(processor)
    if cost is None:
        return EFFORT_ALIKE
    return cost.file_ms + min(size_bytes, cost.bytes_max) * cost.mib_ms // _MIB


def effort_change(event: e.Event) -> tuple[int, int]:
    """What an event adds to its batch's effort, and to what of that is done.

    Both only grow: a settled file that is queued again is more to do. A further attempt is not.
    """
    match event:
        case e.FileQueued() if event.previous != "retrying":
            return event.effort, 0
        case e.FileCompleted() | e.FileFailed():
            return 0, event.effort
        case e.FilesQueued():
            return sum(file.effort for _, file in event.files), 0
        case e.FilesCompleted():
            return 0, sum(file.effort for _, file in event.files)
        case _:
            return 0, 0


def time_left(elapsed: float, *, done: int, left: int, effort: int, effort_done: int) -> float:
    """At the rate of the time that has elapsed, in its unit: by effort, by files where that tells nothing."""
    if 0 < effort_done < effort:
        return elapsed * (effort - effort_done) / effort_done
    return elapsed * left / done
