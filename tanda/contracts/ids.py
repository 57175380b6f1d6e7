"""Identifiers: prefixed ULIDs, sortable by the time they were made.

Ids are made from arguments only (time and entropy come in), so that a decision can be repeated.
"""

from functools import lru_cache
from hashlib import sha256

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base32, as ULID prescribes
#: Two characters at a time: an id is made for every event.
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]
#: 48 bits of milliseconds and 80 of entropy, five bits a character.
_ULID_CHARS = 26
_ENTROPY_BYTES = 10
_SHIFTS = range(70, -1, -10)
#: Of a file's id by index: 20 of its 80 bits of entropy.
_INDEX_CHARS = 4
_INDICES = 32**_INDEX_CHARS

BATCH = "bat"
FILE = "fil"
EVENT = "evt"
BULK = "blk"


def make_id(prefix: str, time_ms: int, entropy: bytes) -> str:
    """``bat_01J…``: the time in milliseconds since the epoch and ten bytes of entropy."""
    value = int.from_bytes(entropy[:_ENTROPY_BYTES], "big")
    return f"{prefix}_{_time_digits(time_ms)}{''.join([_PAIRS[(value >> at) & 1023] for at in _SHIFTS])}"


@lru_cache(maxsize=1024)
def _time_digits(time_ms: int) -> str:
    """Ten of the 26: the ids of a batch's files, and of one append's events, have them in common."""
    return "".join([_PAIRS[(time_ms >> at) & 1023] for at in range(40, -1, -10)])


def derived_id(prefix: str, time_ms: int, *parts: str) -> str:
    """The same id for the same time and parts, whoever asks and however often."""
    return make_id(prefix, time_ms, sha256("\0".join(parts).encode()).digest())


@lru_cache(maxsize=1024)
def id_time_ms(identifier: str) -> int:
    """The time inside an id, in milliseconds since the epoch; ValueError where it is no id of ours."""
    _, _, ulid = identifier.partition("_")
    if not is_id(identifier):
        raise ValueError(f"not an id: {identifier!r}")
    value = 0
    for char in ulid[:10]:
        value = value * 32 + _ALPHABET.index(char)
    return value


def is_id(identifier: str, prefix: str | None = None) -> bool:
    """Whether a string has the shape of an id, of one kind where a prefix is given."""
    head, _, ulid = identifier.partition("_")
    if prefix is not None and head != prefix:
        return False
    return bool(head) and len(ulid) == _ULID_CHARS and all(char in _ALPHABET for char in ulid)


def file_id(batch_id: str, discriminator: str) -> str:
    """A file's id within its batch, by its name in an open batch.

    The same upload repeated gives the same ids, so that the log itself refuses the second one.
    """
    return derived_id(FILE, id_time_ms(batch_id), batch_id, discriminator)


def indexed_file_id(batch_id: str, index: int) -> str:
    """A file's id within its batch, by its index in an upload, which the last four characters tell."""
    if index >= _INDICES:
        return file_id(batch_id, str(index))
    return f"{_indexed(batch_id)}{_PAIRS[index >> 10]}{_PAIRS[index & 1023]}"


@lru_cache(maxsize=64)
def _indexed(batch_id: str) -> str:
    """What all of a batch's ids by index have in common: its time, and 60 bits that are its own."""
    return file_id(batch_id, "\0\0")[:-_INDEX_CHARS]


def index_in(file_id: str) -> int:
    """The index that an id by index tells; of any other id a number that says nothing."""
    index = 0
    for char in file_id[-_INDEX_CHARS:]:
        index = index * 32 + max(_ALPHABET.find(char), 0)
    return index
