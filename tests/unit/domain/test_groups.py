"""Which files of an upload are told together: the same ones whenever the same upload is told again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tanda.contracts import events as e
from tanda.contracts import ids
from tanda.contracts.codec import encode
from tanda.contracts.results import FileError
from tanda.contracts.subjects import group_token, is_group
from tanda.domain.groups import (
    BATCH_FILES_MIN,
    GROUP_BYTES_MAX,
    GROUP_FILES,
    completed,
    group_of,
    together,
)
from tests.unit.domain.folding import START_MS, complete_at_once, file_queued
from tests.unit.domain.profile import examples

BATCH = ids.derived_id(ids.BATCH, START_MS, "acme")
Told = list[tuple[str, e.Event]]


def first_events(count: int, rejected: frozenset[int] = frozenset(), options: int = 0) -> Told:
    """Of an upload, by each file's id; ``options`` makes each so much longer."""
    told: Told = []
    for index in range(count):
        event: e.Event = file_queued(index, options={"x": "x" * options} if options else {})
        if index in rejected:
            error = FileError(code="unsupported_type", message="No processor takes it.")
            event = e.FileRejected(name="f", index=index, content_type="x/y", bytes=1, error=error)
        told.append((ids.indexed_file_id(BATCH, index), event))
    return told


@given(
    count=st.integers(0, 3 * GROUP_FILES), rejected=st.frozensets(st.integers(0, 3 * GROUP_FILES), max_size=9)
)
@examples(60)
def test_every_file_is_told_once(count: int, rejected: frozenset[int]) -> None:
    """By itself or in the one group that its id tells, in upload order, and rejected ones always alone."""
    given_events = first_events(count, rejected)
    single: Told = []
    for token, event in together(given_events):
        if isinstance(event, e.FilesQueued):
            assert 1 < len(event.files) <= GROUP_FILES and is_group(token)
            assert {group_of(file_id) for file_id, _ in event.files} == {token}
            assert [one.index for _, one in event.files] == sorted(one.index for _, one in event.files)
            single += event.files
        else:
            single.append((token, event))
    assert sorted(single, key=lambda one: one[0]) == sorted(given_events, key=lambda one: one[0])


@pytest.mark.parametrize(
    ("count", "groups"),
    [(BATCH_FILES_MIN - 1, 0), (BATCH_FILES_MIN, 1), (GROUP_FILES, 1), (GROUP_FILES + 2, 2)],
)
def test_small_uploads_are_told_file_by_file(count: int, groups: int) -> None:
    """A group begins where an upload has enough files, and ends at each hundred."""
    told = together(first_events(count))
    assert [token for token, event in told if isinstance(event, e.FilesQueued)] == [
        group_token(number) for number in range(groups)
    ]
    assert groups or len(told) == count


def test_a_group_of_one_is_no_group() -> None:
    """The last of a hundred and one is told by itself."""
    told = together(first_events(GROUP_FILES + 1))
    assert [type(event) for _, event in told] == [e.FilesQueued, e.FileQueued]


def test_files_with_much_to_tell_are_told_one_by_one() -> None:
    """What would be too large for one event of the log is no group: neither at its begin nor at its end."""
    large = first_events(GROUP_FILES, options=GROUP_BYTES_MAX // GROUP_FILES)
    assert together(large) == large
    files: list[tuple[str, e.FileCompleted]] = []
    for file_id, event in first_events(GROUP_FILES):
        assert isinstance(event, e.FileQueued)
        files.append((file_id, complete_at_once(event, "2026-11-18T10:00:00.000Z")))
    whole = completed(files)
    assert whole is not None and whole.files == files and len(encode(whole)) <= GROUP_BYTES_MAX
    assert completed(files * (GROUP_BYTES_MAX // len(encode(whole)) + 1)) is None


@given(index=st.integers(0, 32**4 - 1))
@examples(100)
def test_an_id_tells_its_index(index: int) -> None:
    """And is an id like any other, the same for the same upload."""
    one = ids.indexed_file_id(BATCH, index)
    assert ids.is_id(one, ids.FILE) and ids.index_in(one) == index
    assert one == ids.indexed_file_id(BATCH, index) != ids.indexed_file_id(BATCH, index + 1)
    assert group_of(one) == group_token(index // GROUP_FILES)


@pytest.mark.parametrize("file_id", ["", "_", "fil_", "fil_ñandú", "grp_7", ids.file_id(BATCH, "a.xml")])
def test_any_other_id_tells_a_group_that_it_is_not_in(file_id: str) -> None:
    """Whoever looks there finds nothing of it; nothing breaks."""
    assert is_group(group_of(file_id))
