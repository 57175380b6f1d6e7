"""Names say what things are, docstrings what the signature does not, and nothing grows beyond sight."""

import ast
from collections import Counter
from pathlib import Path

import pytest

from tests.house.sources import CODE_FOLDERS, ROOT, TEST_FOLDERS, python_files, text, tree

EVERYTHING = python_files(*CODE_FOLDERS, *TEST_FOLDERS)
#: Rooms whose public names are read by integrators or by every other room.
DOCUMENTED = ("tanda/contracts/", "tanda/domain/", "tanda/ports.py", "tanda/client/")
#: Words that name a drawer, not a concept.
DRAWERS = frozenset({"common", "util", "utils", "helper", "helpers", "manager", "misc", "core", "shared"})
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
FOLDER_FILES_MAX = 12

Documentable = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _public(body: list[ast.stmt], prefix: str = "") -> list[tuple[str, Documentable, bool]]:
    """Public classes, functions and methods: name, node, and whether it is a class's own."""
    found: list[tuple[str, Documentable, bool]] = []
    for node in body:
        if isinstance(node, Documentable) and not node.name.startswith("_"):
            found.append((prefix + node.name, node, bool(prefix)))
            if isinstance(node, ast.ClassDef):
                found += _public(node.body, f"{node.name}.")
    return found


def _is_plain(node: Documentable, *, is_member: bool) -> bool:
    """Documented by its own form: a member of a documented class, or a function whose name,
    parameters and return type say it all because its body is one line."""
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base) in {"Command", "Body", "Request"} for base in node.bases)
    return is_member or (len(node.body) == 1 and node.end_lineno == node.body[0].end_lineno)


@pytest.mark.parametrize("path", [p for p in EVERYTHING if str(p).startswith(DOCUMENTED)], ids=str)
def test_public_names_are_documented(path: Path) -> None:
    """Every public name of the language, the rules, the ports and the client has its sentence."""
    silent = [
        name
        for name, node, is_member in _public(tree(path).body)
        if not ast.get_docstring(node) and not _is_plain(node, is_member=is_member)
    ]
    assert not silent, f"{path}: without a docstring: {silent}"


def test_every_module_begins_with_a_sentence() -> None:
    """A file that holds anything says what, first."""
    silent = [
        str(p) for p in python_files(*CODE_FOLDERS) if text(p).strip() and not ast.get_docstring(tree(p))
    ]
    assert not silent, f"without a module docstring: {silent}"


def test_nothing_is_named_like_a_drawer() -> None:
    """One concept, one file, one word; never common, util, helpers, manager."""
    parts = {(path, part) for path in EVERYTHING for part in path.with_suffix("").parts}
    drawers = [str(path) for path, part in parts if DRAWERS.intersection(part.lower().split("_"))]
    assert not drawers, f"named like drawers: {sorted(drawers)}"


def test_no_file_is_too_long() -> None:
    """Five hundred lines are the most that a file may have."""
    long = {str(path): lines for path in EVERYTHING if (lines := text(path).count("\n")) > FILE_LINES_MAX}
    assert not long, f"more than {FILE_LINES_MAX} lines: {long}"


def test_no_function_is_too_long() -> None:
    """Seventy lines are the most that a function may have."""
    long: dict[str, int] = {}
    for path in EVERYTHING:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{path}:{node.name}"] = lines
    assert not long, f"more than {FUNCTION_LINES_MAX} lines: {long}"


def test_no_folder_is_too_full() -> None:
    """A dozen Python files are the most that a folder may have, its ``__init__`` not counted."""
    counts = Counter(path.parent for path in EVERYTHING if path.name != "__init__.py")
    full = {str(folder): count for folder, count in counts.items() if count > FOLDER_FILES_MAX}
    assert not full, f"more than {FOLDER_FILES_MAX} files: {full}"


def test_the_tree_under_test_is_the_repository() -> None:
    """The rules above looked at something."""
    assert (ROOT / "pyproject.toml").exists()
    assert len(EVERYTHING) > 20
