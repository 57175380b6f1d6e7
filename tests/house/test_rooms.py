"""Rooms are imports: the table in ``rooms`` holds for every file."""

import ast
import sys
from pathlib import Path

import pytest

from tests.house.rooms import ROOMS, Room, room_of, within
from tests.house.sources import CODE_FOLDERS, dotted, imported_modules, python_files, tree

FILES = python_files(*CODE_FOLDERS)
#: Rooms whose files may not ask what time it is or draw lots; time and entropy come in as arguments.
CLOCKLESS = ("tanda.contracts", "tanda.domain", "services.worker.processors", "services.projector.views")
CLOCK_CALLS = frozenset(
    {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter", "urandom", "uuid4"}
)


def _allowed(module: str, own_room: str, room: Room) -> bool:
    top = module.partition(".")[0]
    if top in CODE_FOLDERS:
        return any(within(module, ours) for ours in (*room.ours, own_room)) and not (
            own_room.endswith("__main__") and room_of(module).endswith("__main__")
        )
    if top in sys.stdlib_module_names:
        return room.stdlib is None or any(within(module, allowed) for allowed in room.stdlib)
    return top in room.packages


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    """The allowed arrows are the table's, for lazy and type-only imports as well."""
    own_room = room_of(dotted(path))
    room = ROOMS[own_room]
    foreign = [module for module in imported_modules(path) if not _allowed(module, own_room, room)]
    assert not foreign, f"{path} is in {own_room} ({room.why}) and imports {foreign}"


def test_no_service_imports_another() -> None:
    """The table itself never lets one service know another."""
    for name, room in ROOMS.items():
        service = name.split(".")[1] if name.startswith("services.") else ""
        for ours in room.ours:
            assert not ours.startswith("services") or ours == f"services.{service}", f"{name} -> {ours}"


def test_tanda_never_imports_a_service() -> None:
    """Arrows go from the services to tanda, never back."""
    for path in python_files("tanda"):
        assert not [module for module in imported_modules(path) if within(module, "services")], path


def test_every_room_of_the_table_exists_or_is_announced() -> None:
    """A folder below tanda or services/<service> without a row of its own takes its parent's on purpose."""
    tops = {".".join(path.parts[:2]) for path in FILES if len(path.parts) > 2}
    assert tops <= set(ROOMS), f"rooms without a row: {tops - set(ROOMS)}"


@pytest.mark.parametrize("path", [path for path in FILES if dotted(path).startswith(CLOCKLESS)], ids=str)
def test_a_pure_room_reads_no_clock(path: Path) -> None:
    """Time and chance come in as arguments."""
    calls = [node.func for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    names = [func.attr for func in calls if isinstance(func, ast.Attribute)]
    asked = CLOCK_CALLS.intersection(names)
    assert not asked, f"{path} calls {sorted(asked)}"
