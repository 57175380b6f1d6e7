"""The gateway that a watched folder needs, over the SDK."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tanda.client import Client


class OverHttp:
    """``fields`` are those of a batch: name, processor, priority."""

    def __init__(self, client: Client, fields: dict[str, Any]) -> None:
        self._client, self._fields = client, fields

    def open(self, key: str) -> str:
        return self._client.open_batch(key, **self._fields)["id"]

    def put(self, batch_id: str, name: str, path: Path) -> None:
        self._client.put_file(batch_id, name, path)

    def seal(self, batch_id: str) -> None:
        """A batch that was sealed before its seal was written down is left as it is."""
        if self._client.batch(batch_id)["status"] == "open":
            self._client.command(batch_id, "seal")

    def files(self, batch_id: str) -> Iterable[dict[str, Any]]:
        return self._client.files(batch_id)
