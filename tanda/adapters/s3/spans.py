"""Which pieces of objects are read in one request: those that lie close together in one object.

Small files are packed, so that what is worked on together mostly lies together.
"""

from collections.abc import Sequence

from tanda.contracts.results import BlobRef

#: Bytes that nobody asked for are cheaper than another request, up to here.
_GAP_BYTES_MAX = 64 * 1024
#: One request's bytes are held in memory.
_SPAN_BYTES_MAX = 8 * 1024**2


def spans(refs: Sequence[BlobRef]) -> list[list[int]]:
    """The indices of all refs, by the request that reads them; those of one request by offset."""
    found: list[list[int]] = []
    for index in sorted(range(len(refs)), key=lambda i: (refs[i].key, refs[i].offset)):
        if not (found and _joins(refs, found[-1], refs[index])):
            found.append([])
        found[-1].append(index)
    return found


def _joins(refs: Sequence[BlobRef], span: Sequence[int], ref: BlobRef) -> bool:
    first, last = refs[span[0]], refs[span[-1]]
    end = last.offset + last.bytes
    return (
        ref.key == first.key
        and ref.offset <= end + _GAP_BYTES_MAX
        and ref.offset + ref.bytes - first.offset <= _SPAN_BYTES_MAX
    )
