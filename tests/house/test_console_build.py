"""The console that is shipped is the one whose source is here."""

import gzip
import json
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from tests.house.console_vectors import VECTORS, vectors
from tests.house.sources import ROOT
from tests.node import CONSOLE, console_copy, npm

SHIPPED = ROOT / "services" / "gateway" / "static"
BUILD = "build.json"
SOURCES = ("src", "public")
#: What the build also depends on, beside the folders.
SOURCE_FILES = ("index.html", "manifest.ts", "package.json", "package-lock.json", "svelte.config.js",
                "tsconfig.json", "vite.config.ts")  # fmt: skip
LINES_MAX = 300
ALL_BYTES_MAX = 90_000


@cache
def _recorded() -> dict[str, dict[str, str]]:
    return json.loads((SHIPPED / BUILD).read_text())


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _sources() -> list[Path]:
    below = [path for name in SOURCES for path in (CONSOLE / name).rglob("*") if path.is_file()]
    return [*below, *(CONSOLE / name for name in SOURCE_FILES)]


def _shipped(folder: Path) -> dict[str, str]:
    return {path.name: _digest(path) for path in folder.iterdir() if path.name != BUILD}


def test_the_build_is_of_these_sources() -> None:
    """Every source has the digest that the build recorded: else run ``make console``."""
    now = {path.relative_to(CONSOLE).as_posix(): _digest(path) for path in _sources()}
    assert now == _recorded()["sources"]


def test_the_shipped_files_are_those_of_the_build() -> None:
    """Nobody has changed, added or removed one by hand."""
    assert _shipped(SHIPPED) == _recorded()["shipped"]


def test_the_vectors_of_the_store_are_current() -> None:
    """The browser's fold is held to the projector's folds as they are now: else run the module."""
    assert VECTORS.read_text(encoding="utf-8") == vectors()


def test_no_source_of_the_console_is_too_long() -> None:
    """Three hundred lines are the most that a file may have."""
    code = [path for path in _sources() if path.suffix in {".ts", ".svelte", ".css"}]
    long = {str(path): n for path in code if (n := path.read_text().count("\n")) > LINES_MAX}
    assert not long


def test_all_of_its_code_is_small() -> None:
    """Ninety kilobytes, compressed, are the most that all of the console's code may be."""
    code = [gzip.compress(path.read_bytes()) for path in SHIPPED.glob("*.js")]
    assert sum(map(len, code)) <= ALL_BYTES_MAX


def test_the_lock_names_no_registry() -> None:
    """A lock that names the host it was made from is of no use elsewhere."""
    assert '"resolved"' not in (CONSOLE / "package-lock.json").read_text()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return console_copy(tmp_path_factory.mktemp("node") / "console")


def test_a_build_of_these_sources_is_the_shipped_one(node: Path) -> None:
    """Built again it is the same, byte for byte."""
    done = npm(node, "run", "build", "--", "--outDir", "built")
    assert done.returncode == 0, done.stderr
    assert _shipped(node / "built") == _shipped(SHIPPED)


def test_the_store_folds_as_the_projector_does(node: Path) -> None:
    """The console's own unit tests: the store, both languages' words, what an upload decides."""
    done = npm(node, "test")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
