"""A watched folder on a running Tanda."""

import asyncio
from pathlib import Path

from tanda.intake.folder import Folder
from tanda.intake.over_http import OverHttp
from tests.running import Running


async def test_dropped_files_are_archived_once_completed(tanda: Running, tmp_path: Path) -> None:
    """Each file leaves its place only when its batch says that it is completed."""
    (tmp_path / "source").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "source" / name).write_bytes(b"a;b\n1;2\n")
    with tanda.client() as client:
        folder = Folder(tmp_path, OverHttp(client, {"processor": "noop", "name": tmp_path.name}))
        await asyncio.to_thread(folder.take, lambda _path: True)
        (batch,) = [one for one in client.batches() if one["name"] == tmp_path.name]
        await tanda.finished(batch["id"])
        await asyncio.to_thread(folder.settle)
    assert sorted(path.name for path in (tmp_path / "archived").iterdir()) == ["a.csv", "b.csv"]
    assert not list((tmp_path / "processing").iterdir())
