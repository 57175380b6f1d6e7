"""A multipart form with any number of files, one of them open at a time and a piece of it in memory."""

import asyncio
import json
import mimetypes
import secrets
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

PIECE_BYTES = 256 * 1024
#: What browsers escape in a form's names (HTML, multipart/form-data encoding algorithm).
_ESCAPED = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"}


class FormUpload:
    """Fields first, so that the gateway knows what to do with the files while they come."""

    def __init__(self, files: Sequence[Path], fields: dict[str, Any]) -> None:
        self._boundary = secrets.token_hex(16)
        self._files = [(self._file_head(path), path) for path in files]
        self._fields = b"".join(self._field(name, value) for name, value in fields.items())
        self._end = f"--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """With the length, so that the gateway can refuse what is too large at once."""
        size = sum(len(head) + path.stat().st_size + 2 for head, path in self._files)
        return {
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(len(self._fields) + size + len(self._end)),
        }

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The body; small files travel together."""
        gathered = [self._fields]
        size = len(self._fields)
        for head, path in self._files:
            gathered.append(head)
            with await asyncio.to_thread(path.open, "rb") as file:
                while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
                    gathered.append(piece)
                    size += len(piece)
                    if size >= PIECE_BYTES:
                        yield b"".join(gathered)
                        gathered, size = [], 0
            gathered.append(b"\r\n")
        yield b"".join([*gathered, self._end])

    def _field(self, name: str, value: Any) -> bytes:
        text = value if isinstance(value, str) else json.dumps(value)
        return self._head(f'name="{name}"') + b"\r\n" + text.encode() + b"\r\n"

    def _file_head(self, path: Path) -> bytes:
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        head = self._head(f'name="files"; filename="{path.name.translate(_ESCAPED)}"')
        return head + f"Content-Type: {kind}\r\n\r\n".encode()

    def _head(self, disposition: str) -> bytes:
        return f"--{self._boundary}\r\nContent-Disposition: form-data; {disposition}\r\n".encode()


def present(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}
