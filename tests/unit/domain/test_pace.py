"""The time left, held to account: told half-way, compared with what came."""

from tanda.contracts import events as e
from tanda.contracts.results import FileError
from tanda.domain.settling import SettlingBatch
from tests.unit.domain.folding import START_MS, FoldedLog, file_queued

BROKEN = FileError(code="broken", message="No.")


def batch(files: int, second_half_ms: int, *, paused: bool = False) -> SettlingBatch:
    """The first half takes a second; the second as long as it is told to."""
    log, settling = FoldedLog(), SettlingBatch(tenant="acme", batch_id="b")

    def tell(event: e.Event, file_id: str | None = None) -> None:
        settling.apply(log.append(event, "b", file_id))

    tell(e.BatchCreated(name="b"))
    for index in range(files):
        tell(file_queued(index), f"b-{index}")
    tell(e.BatchSealed(total=files))
    for index in range(files):
        log.now_ms = START_MS
        if index == 0:
            start = e.FileStarted(
                attempt=1, delivery=1, worker="w", processor="noop", processor_version="1", previous="queued"
            )
            tell(start, "b-0")
        half = files // 2
        first = START_MS + 1_000 * (index + 1) // half
        log.now_ms = first if index < half else START_MS + 1_000 + second_half_ms * (index + 1 - half) // half
        tell(e.FileFailed(attempt=1, error=BROKEN), f"b-{index}")
        if paused and index == 1:
            tell(e.BatchPaused())
    return settling


def test_a_steady_batch_takes_what_was_told() -> None:
    assert batch(20, 1_000).pace.eta_ratio == 1.0


def test_a_batch_that_slows_down_takes_longer_than_was_told() -> None:
    assert batch(20, 2_500).pace.eta_ratio == 2.5


def test_a_paused_batch_and_a_tiny_one_say_nothing() -> None:
    assert (batch(20, 1_000, paused=True).pace.eta_ratio, batch(4, 1_000).pace.eta_ratio) == (None, None)
