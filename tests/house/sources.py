"""The repository's own files, parsed once for all house tests."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE_FOLDERS = ("tanda", "services")
TEST_FOLDERS = ("tests", "bench")


@cache
def python_files(*folders: str) -> tuple[Path, ...]:
    """Every Python file of these folders, as paths from the repository's root."""
    found = (path for folder in folders for path in (ROOT / folder).rglob("*.py"))
    return tuple(sorted(path.relative_to(ROOT) for path in found))


@cache
def text(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(text(path), filename=str(path))


def imported_modules(path: Path) -> list[str]:
    """The modules a file imports, wherever in it: ``from tanda import ports`` is ``tanda.ports``."""
    modules: list[str] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides its room"
            modules += [_resolved(node.module or "", alias.name) for alias in node.names]
    return modules


def dotted(path: Path) -> str:
    """``tanda/domain/file.py`` as ``tanda.domain.file``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _resolved(module: str, name: str) -> str:
    folder = ROOT.joinpath(*module.split("."))
    is_module = (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()
    return f"{module}.{name}" if is_module else module
