"""The codes that a file can fail with and that a request can be refused with, found in the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.house.sources import ROOT

#: Where files fail: what makes a ``Failure``, a ``FileError`` or a refusal that becomes one.
_FILES = ("services/worker", "tanda/domain/filetypes.py")
#: Where requests are refused.
_REQUESTS = ("services/gateway", "tanda/domain", "tanda/results", "tanda/adapters")
_FILE_CALLS = ("Failure", "FileError", "Refused", "Refusal", "_refuse", "_refusal")
_REQUEST_CALLS = ("Refusal", "NotFound", "StateForbids", "Conflict", "Busy", "__init__", "too_large")


def file_codes() -> set[str]:
    """Codes of ``error.code`` of a file."""
    return {code for path in _sources(_FILES) for code in _codes(path, _FILE_CALLS)} | _named_codes()


def request_codes() -> set[str]:
    """Codes of problems (RFC 9457), but for those of the older systems' routes, which no console asks."""
    sources = (
        path for path in _sources(_REQUESTS) if path.name != "filetypes.py" and "legacy" not in path.parts
    )
    return {code for path in sources for code in _codes(path, _REQUEST_CALLS)}


def warning_codes() -> set[str]:
    """What a result may say of itself: ``warnings`` of processors and of the worker."""
    trees = [ast.parse(path.read_text()) for path in _sources(("services/worker",))]
    return {code for tree in trees for node in ast.walk(tree) for code in _warnings(node)}


def _warnings(node: ast.AST) -> Iterator[str]:
    """Appended to ``warnings``, listed as an argument of that name, or in the table of a function of it."""
    if isinstance(node, ast.FunctionDef) and node.name.startswith("warnings"):
        tables = [one for one in ast.walk(node) if isinstance(one, ast.Dict)]
        yield from (text for table in tables for key in table.keys if key for text in _texts(key))
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.append":
        yield from _texts(node.args[0])
    if isinstance(node, ast.keyword) and node.arg == "warnings":
        yield from _texts(node.value)


def _named_codes() -> set[str]:
    """Those of a table: what a provider's status means."""
    tree = ast.parse((ROOT / "services/worker/outside/calling.py").read_text())
    tables = [
        one for one in ast.walk(tree) if isinstance(one, ast.AnnAssign) and _name(one.target) == "PAUSE_CODES"
    ]
    return {text for table in tables if table.value for text in _texts(table.value)}


def _sources(places: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        path = ROOT / place
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def _codes(path: Path, calls: tuple[str, ...]) -> Iterator[str]:
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and _name(call.func).endswith(calls):
            named = [word.value for word in call.keywords if word.arg == "code"]
            for value in named or call.args[:1]:
                yield from (
                    text for text in _texts(value) if text.replace("_", "").isalpha() and text.islower()
                )


def _texts(value: ast.expr) -> Iterator[str]:
    for one in ast.walk(value):
        if isinstance(one, ast.Constant) and isinstance(one.value, str):
            yield one.value


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
