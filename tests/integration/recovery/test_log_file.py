"""`tanda log export` and `import`: the whole log as a file of CloudEvents, and back into an empty log."""

import asyncio
import json
from pathlib import Path

import pytest

from tanda.archive.records import same
from tanda.cli.log import log
from tanda.cli.target import Failed, Target
from tests.integration.recovery.site import Site


@pytest.fixture
def target(place: Site, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The command line on these servers."""
    for name, value in place.servers.env.items():
        monkeypatch.setenv(name, value)
    return Target()


async def call(*arguments: object, **options: object) -> None:
    """The command, which has a loop of its own."""
    await asyncio.to_thread(log, *arguments, **options)  # pyright: ignore[reportArgumentType]


async def test_a_log_comes_back_from_its_file(place: Site, target: Target, tmp_path: Path) -> None:
    """The same events at the same positions, and the same file again."""
    await place.events(1_200)
    before = await place.records()
    await call("export", tmp_path / "log.ndjson", target=target)
    lines = (tmp_path / "log.ndjson").read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [one.seq for one in before]
    await place.raw.recreate()
    await call("import", tmp_path / "log.ndjson", target=target)
    after = await place.records()
    assert len(after) == len(before) and all(map(same, before, after))
    await call("export", tmp_path / "again.ndjson", target=target)
    assert (tmp_path / "again.ndjson").read_bytes() == (tmp_path / "log.ndjson").read_bytes()


async def test_only_an_empty_log_takes_a_file(place: Site, target: Target, tmp_path: Path) -> None:
    """One with events, or with an archive, is told what it has; nothing is written."""
    await place.events(30)
    await call("export", tmp_path / "log.ndjson", target=target)
    with pytest.raises(Failed, match="not empty"):
        await call("import", tmp_path / "log.ndjson", target=target)
    await place.archive_all()
    await place.raw.recreate()
    with pytest.raises(Failed, match="archive"):
        await call("import", tmp_path / "log.ndjson", target=target)
    assert (await place.raw.facts()).last == 0


@pytest.mark.parametrize("damage", ["hole", "torn", "part"])
async def test_a_file_that_is_no_whole_log_is_refused_before_anything(
    place: Site, target: Target, tmp_path: Path, damage: str
) -> None:
    """A missing line, a torn last one, an export from the middle."""
    await place.events(30)
    await call("export", tmp_path / "log.ndjson", target=target, start=5 if damage == "part" else 1)
    lines = (tmp_path / "log.ndjson").read_bytes().splitlines(keepends=True)
    if damage == "hole":
        del lines[7]
    if damage == "torn":
        lines[-1] = lines[-1][:40]
    (tmp_path / "log.ndjson").write_bytes(b"".join(lines))
    await place.raw.recreate()
    with pytest.raises(Failed, match="line"):
        await call("import", tmp_path / "log.ndjson", target=target)
    assert (await place.raw.facts()).last == 0
