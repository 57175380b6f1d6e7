"""Documents of batches that still run, as far as their events have come.

When the last file of a batch is settled its document is wanted at once; whoever has followed its events
need not read all of them again. A draft is only a saving: there is room for some, and what has none is read
from the log.
"""

from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO

from tanda.contracts import events as e
from tanda.contracts.envelope import Recorded
from tanda.domain.errors import LogDamaged
from tanda.domain.settling import TELLING
from tanda.results.fold import DocumentFold

Key = tuple[str, str]

#: Of all drafts together, a file being some 600 bytes beside its entry; the oldest draft makes room.
DRAFTS_MAX = 64
FILES_MAX = 50_000
ENTRY_BYTES_MAX = 40 * 1024**2


class Drafts:
    """The drafts of one follower, by tenant and batch."""

    def __init__(self) -> None:
        self._folds: OrderedDict[Key, DocumentFold] = OrderedDict()

    def apply(self, records: Sequence[Recorded]) -> None:
        """Goes on with the drafts that these events are of; begins one with a batch's first event."""
        for record in records:
            key = (record.tenant, record.batch_id)
            if isinstance(record.event, e.BatchCreated):
                self._folds[key] = DocumentFold(record.batch_id, BytesIO())
                self._folds.move_to_end(key)
            elif isinstance(record.event, e.BatchCompleted):
                self._folds.pop(key, None)
            fold = self._folds.get(key)
            if fold is not None and type(record.event) in TELLING:
                try:
                    fold.apply([record])
                except LogDamaged:  # whoever builds from the log says so
                    del self._folds[key]
        self._make_room()

    def take(self, key: Key, through_seq: int) -> DocumentFold | None:
        """The draft of a batch, if it is as of this position; it is a draft no more."""
        fold = self._folds.pop(key, None)
        return fold if fold is not None and fold.seq == through_seq else None

    def _make_room(self) -> None:
        while self._folds and (
            len(self._folds) > DRAFTS_MAX
            or sum(fold.files_known for fold in self._folds.values()) > FILES_MAX
            or sum(fold.bytes_spooled for fold in self._folds.values()) > ENTRY_BYTES_MAX
        ):
            self._folds.popitem(last=False)
