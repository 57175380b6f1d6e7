"""A file's entry in the result document, as it is written: one line, its result put in as it is."""

from typing import Final

import msgspec

from tanda.contracts.codec import encode
from tanda.contracts.events import FileStatus
from tanda.contracts.results import FileError


class _Head(msgspec.Struct, frozen=True):
    lote_id: str
    archivo_id: str
    nombre: str
    indice: int
    estado: FileStatus
    intentos: int
    sha256: str | None


class _Whole(_Head, frozen=True):
    resultado: msgspec.Raw
    error: None = None


class _Error(msgspec.Struct, frozen=True):
    code: str
    message: str
    attempt: int


#: What follows a result that no error stands beside.
_TAIL: Final = b',"error":null}'
_NULL: Final = msgspec.Raw(b"null")


def whole(
    batch_id: str, file_id: str, name: str, index: int, attempt: int, sha256: str | None, result: msgspec.Raw
) -> bytes:
    """The entry of a completed file."""
    return encode(
        _Whole(batch_id, file_id, name, index, "completed", attempt, sha256, result if len(result) else _NULL)
    )


def head(
    batch_id: str, file_id: str, name: str, index: int, status: FileStatus, attempt: int, sha256: str | None
) -> bytes:
    """An entry up to its result."""
    return encode(_Head(batch_id, file_id, name, index, status, attempt, sha256))[:-1] + b',"resultado":'


def tail(error: FileError | None, attempt: int) -> bytes:
    """What follows the result."""
    if error is None:
        return _TAIL
    return b',"error":' + encode(_Error(error.code, error.message, attempt)) + b"}"
