"""Which files share a sandboxed child, and how many are taken for it."""

import msgspec

from services.worker.sharing import SHARED_BYTES_MAX, Sharing
from tanda.contracts.results import BlobRef
from tanda.contracts.work import WorkItem


def item(
    number: int, *, batch: str = "b1", processor: str = "invoice", size: int = 100, attempt: int = 1
) -> WorkItem:
    source = BlobRef(key=f"t/a/{batch}/src/x", bytes=size, sha256="0" * 64)
    return WorkItem(
        tenant="a", batch_id=batch, file_id=f"f{number}", seq=number + 1, attempt=attempt,
        name=f"{number}.xml", content_type="application/xml", bytes=size, sha256="0" * 64, source=source,
        processor=processor,
    )  # fmt: skip


def sizes(sharing: Sharing, items: list[WorkItem], free: int) -> list[int]:
    return [len(group) for group in sharing.groups([(one, one) for one in items], free)]


def test_files_of_one_batch_and_processor_go_together() -> None:
    """Another batch, another processor: another child."""
    sharing = Sharing(lambda *_: 8)
    items = [item(0), item(1, batch="b2"), item(2), item(3, processor="table"), item(4)]
    groups = sharing.groups([(one, one.file_id) for one in items], 1)
    assert groups == [["f0", "f2", "f4"], ["f1"], ["f3"]]


def test_few_files_are_spread_over_the_free_children() -> None:
    """Eight files and four free children: two in each, rather than eight in one."""
    assert sizes(Sharing(lambda *_: 32), [item(n) for n in range(8)], 4) == [2, 2, 2, 2]


def test_no_child_gets_more_than_the_sandbox_says() -> None:
    """What it has not learned yet, what is large, has failed before or is bound to a version goes alone."""
    items = [item(n) for n in range(10)]
    assert sizes(Sharing(lambda *_: 4), items, 1) == [4, 4, 2]
    assert sizes(Sharing(lambda *_: 1), items, 1) == [1] * 10
    large = [item(n, size=SHARED_BYTES_MAX + 1) for n in range(3)]
    assert sizes(Sharing(lambda *_: 32), large, 1) == [1] * 3
    again = [item(n, attempt=2) for n in range(3)]
    assert sizes(Sharing(lambda *_: 32), again, 1) == [1] * 3
    bound = [msgspec.structs.replace(item(n), processor_version="1") for n in range(3)]
    assert sizes(Sharing(lambda *_: 32), bound, 1) == [1] * 3


def test_more_is_taken_only_as_groups_grow() -> None:
    """A runner never holds much more than its children take at once."""
    sharing = Sharing(lambda *_: 8)
    assert sharing.room(2) == 4
    assert sizes(sharing, [item(n) for n in range(16)], 2) == [8, 8]
    assert sharing.room(2) == 32
    assert sizes(sharing, [item(n, batch=f"b{n}") for n in range(8)], 2) == [1] * 8
    assert sharing.room(2) == 4
