"""The watched folder, stopped before every one of its effects, on a real disk."""

from pathlib import Path
from typing import Any

from tanda.intake.folder import Folder, free_name, is_wanted


class Stopped(Exception):
    """The watcher is killed here."""


class Batches:
    """The gateway's side of the contract: a key opens one batch, a name is one file of it."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.there: dict[str, dict[str, bytes]] = {}
        self.faulty = {"b.xml"}

    def open(self, key: str) -> str:
        batch_id = self.keys.setdefault(key, f"bat_{len(self.keys)}")
        self.there.setdefault(batch_id, {})
        return batch_id

    def put(self, batch_id: str, name: str, path: Path) -> None:
        assert self.there[batch_id].setdefault(name, path.read_bytes()) == path.read_bytes()

    def seal(self, batch_id: str) -> None:
        assert self.there[batch_id]

    def files(self, batch_id: str) -> list[dict[str, Any]]:
        bad = {"status": "failed", "error": {"code": "broken"}}
        good = {"status": "completed", "error": None}
        return [
            {"id": name, "name": name, **(bad if name in self.faulty else good)}
            for name in self.there[batch_id]
        ]


def run(place: Path, gateway: Batches, stop_at: int) -> bool:
    """One pass; True where it was stopped before its end."""
    steps = iter(range(stop_at))

    def step(_what: str) -> None:
        if next(steps, None) is None:
            raise Stopped

    try:
        folder = Folder(place, gateway, step)
        folder.take(lambda _path: True)
        folder.settle()
    except Stopped:
        return True
    return False


def test_each_file_goes_once_wherever_the_watcher_is_killed(tmp_path: Path) -> None:
    """Stopped before any effect and begun again: one upload a file, archived, the faulty one in its place."""
    stop_at, stopped = 0, True
    while stopped:
        place, gateway = tmp_path / str(stop_at), Batches()
        (place / "source").mkdir(parents=True)
        for name in ("a.xml", "b.xml", "c.xml"):
            (place / "source" / name).write_bytes(b"the same bytes")
        stopped = run(place, gateway, stop_at)
        assert not run(place, gateway, 10_000)
        sent = sorted(name for batch in gateway.there.values() for name in batch)
        assert sent == ["a.xml", "b.xml", "c.xml"], stop_at
        assert sorted(path.name for path in (place / "archived").iterdir()) == ["a.xml", "c.xml"], stop_at
        assert {path.name for path in (place / "processing").iterdir()} >= {"b.xml", "b.xml.error.json"}
        gateway.faulty.clear()
        assert not run(place, gateway, 10_000)
        assert (place / "archived" / "b.xml").exists()
        assert not (place / "processing" / "b.xml.error.json").exists()
        stop_at += 1
    assert stop_at > 20


def test_a_file_dropped_again_is_a_new_file(tmp_path: Path) -> None:
    """The same name and bytes after the archiving are processed again and overwrite nothing."""
    gateway = Batches()
    for _ in range(2):
        (tmp_path / "source").mkdir(exist_ok=True)
        (tmp_path / "source" / "a.xml").write_bytes(b"1")
        assert not run(tmp_path, gateway, 10_000)
    assert len(gateway.there) == 2
    assert sorted(path.name for path in (tmp_path / "archived").iterdir()) == ["a (2).xml", "a.xml"]


def test_names_of_unfinished_files_are_left_alone() -> None:
    """Browsers and copiers write under names of their own first."""
    assert [name for name in ("a.xml", ".a", "a.part", "a.tmp", "a.error.json") if is_wanted(name)] == [
        "a.xml"
    ]
    assert free_name("a.xml", {"a.xml", "a (2).xml"}.__contains__) == "a (3).xml"
