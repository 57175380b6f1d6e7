"""The time left, held to account: told half-way, compared with what came."""

import msgspec
import pytest

from tanda.contracts import events as e
from tanda.contracts.results import FileError
from tanda.domain.settling import Settling, SettlingBatch
from tests.unit.domain.folding import START_MS, FoldedLog, file_queued

BROKEN = FileError(code="broken", message="No.")


def batch(
    files: int, second_half_ms: int, *, paused: bool = False, efforts: tuple[int, int] = (1, 1)
) -> SettlingBatch:
    """The first half takes a second; the second as long as it is told to. ``efforts`` are of their files."""
    log, settling = FoldedLog(), SettlingBatch(tenant="acme", batch_id="b")

    def tell(event: e.Event, file_id: str | None = None) -> None:
        settling.apply(log.append(event, "b", file_id))

    half = files // 2
    effort = [efforts[index >= half] for index in range(files)]
    tell(e.BatchCreated(name="b"))
    for index in range(files):
        tell(file_queued(index, effort=effort[index]), f"b-{index}")
    tell(e.BatchSealed(total=files))
    for index in range(files):
        log.now_ms = START_MS
        if index == 0:
            start = e.FileStarted(
                attempt=1, delivery=1, worker="w", processor="noop", processor_version="1", previous="queued"
            )
            tell(start, "b-0")
        first = START_MS + 1_000 * (index + 1) // half
        log.now_ms = first if index < half else START_MS + 1_000 + second_half_ms * (index + 1 - half) // half
        tell(e.FileFailed(attempt=1, error=BROKEN, effort=effort[index]), f"b-{index}")
        if paused and index == 1:
            tell(e.BatchPaused())
    return settling


@pytest.mark.parametrize("efforts", [(1, 1), (0, 0)])
def test_a_steady_batch_takes_what_was_told(efforts: tuple[int, int]) -> None:
    """With the efforts of its files, and without as older ones have it."""
    assert batch(20, 1_000, efforts=efforts).pace.eta_ratio == 1.0


def test_a_batch_that_slows_down_takes_longer_than_was_told() -> None:
    assert batch(20, 2_500).pace.eta_ratio == 2.5


def test_slow_files_that_come_last_are_no_surprise() -> None:
    """What is held to account is what is told, and that takes kinds unalike."""
    assert batch(20, 20_000, efforts=(4, 80)).pace.eta_ratio == 1.0


def test_a_paused_batch_and_a_tiny_one_say_nothing() -> None:
    assert (batch(20, 1_000, paused=True).pace.eta_ratio, batch(4, 1_000).pace.eta_ratio) == (None, None)


def test_a_snapshot_from_before_there_was_effort_is_refused() -> None:
    """Half of its sums would be missing: the log is folded again instead."""
    settling = Settling()
    settling.batches["acme", "b"] = batch(20, 1_000)
    dumped = settling.dump()
    assert Settling.restore(dumped).dump() == dumped
    old = msgspec.msgpack.decode(dumped)
    del old["shape"]
    with pytest.raises(ValueError, match="shape"):
        Settling.restore(msgspec.msgpack.encode(old))
