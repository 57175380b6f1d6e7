"""Which released files follow one another in one sandboxed child, which saves most of its cost.

Small files of one batch, one processor and one type. How many of them is the sandbox's to say, which
knows what their like has taken; this only puts them together. No clock, no I/O.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from tanda.contracts.work import WorkItem

#: A file that is larger goes alone, and so does one that has failed before or is bound to a version.
SHARED_BYTES_MAX = 512 * 1024

One = TypeVar("One")


class Sharing:
    """``together`` says how many files of a processor and a content type may share a child."""

    def __init__(self, together: Callable[[str, str], int]) -> None:
        self._together = together
        #: Files that the last groups had.
        self._usual = 1

    def room(self, free: int) -> int:
        """How many files to take for so many free children: up to twice as many as went together lately."""
        return 2 * free * self._usual

    def groups(self, given: Sequence[tuple[WorkItem, One]], free: int) -> list[list[One]]:
        """The given things by the child that they share, in the order of each group's first.

        Few files are spread over the free children rather than put into one.
        """
        found: list[list[One]] = []
        open_groups: dict[object, list[One]] = {}
        spread = -(-len(given) // max(1, free))
        for item, one in given:
            size = min(spread, self._size(item))
            key = (item.tenant, item.batch_id, item.processor, item.content_type, str(item.options))
            group = open_groups.get(key)
            if group is None or len(group) >= size:
                group = open_groups[key] = []
                found.append(group)
            group.append(one)
        if found:
            self._usual = max(1, round(len(given) / len(found)))
        return found

    def _size(self, item: WorkItem) -> int:
        if item.bytes > SHARED_BYTES_MAX or item.attempt > 1 or item.processor_version is not None:
            return 1
        return self._together(item.processor, item.content_type)
