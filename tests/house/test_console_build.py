"""The console that is shipped is the one whose source is here."""

import json
import shutil
import subprocess
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest

from tests.house.console_vectors import VECTORS, vectors
from tests.house.sources import ROOT

CONSOLE = ROOT / "console"
SHIPPED = ROOT / "services" / "gateway" / "static"
BUILD = "build.json"
SOURCES = ("src", "public")
#: What the build also depends on, beside the folders.
SOURCE_FILES = ("index.html", "manifest.ts", "package.json", "package-lock.json", "svelte.config.js",
                "tsconfig.json", "vite.config.ts")  # fmt: skip
LINES_MAX = 300
FIRST_LOAD_BYTES_MAX = 30_000
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
    """The browser's fold is held to what the projector's folds say now: else run the module that writes them."""
    assert VECTORS.read_text(encoding="utf-8") == vectors()


def test_no_source_of_the_console_is_too_long() -> None:
    """Three hundred lines are the most that a file may have."""
    code = [path for path in _sources() if path.suffix in {".ts", ".svelte", ".css"}]
    long = {str(path): n for path in code if (n := path.read_text().count("\n")) > LINES_MAX}
    assert not long


def test_the_lock_names_no_registry() -> None:
    """A lock that names the host it was made from is of no use elsewhere."""
    assert '"resolved"' not in (CONSOLE / "package-lock.json").read_text()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the console with its packages; a skip that says so where there is no Node to do it with."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm: the digests above are what is checked of the console's build")
    folder = tmp_path_factory.mktemp("node") / "console"
    shutil.copytree(CONSOLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = CONSOLE / "node_modules"
    if (installed / ".package-lock.json").exists() and _is_current(installed):
        (folder / "node_modules").symlink_to(installed)
        return folder
    done = _run(folder, "ci", "--no-audit", "--no-fund")
    if done.returncode and "network" in done.stderr:
        pytest.skip("the console's packages cannot be fetched: the digests above are what is checked")
    assert done.returncode == 0, done.stderr
    return folder


def _is_current(installed: Path) -> bool:
    """What is installed is what the lock says."""
    there = json.loads((installed / ".package-lock.json").read_text())["packages"]
    locked = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    wanted = {name: one["version"] for name, one in locked.items() if name and not one.get("optional")}
    return wanted.items() <= {name: one["version"] for name, one in there.items()}.items()


def _run(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, check=False)


def test_a_build_of_these_sources_is_the_shipped_one(node: Path) -> None:
    """Built again it is the same, byte for byte."""
    done = _run(node, "run", "build", "--", "--outDir", "built")
    assert done.returncode == 0, done.stderr
    assert _shipped(node / "built") == _shipped(SHIPPED)


def test_the_store_folds_as_the_projector_does(node: Path) -> None:
    """The console's own unit tests: the store on the vectors, the words of both languages, the upload's decisions."""
    done = _run(node, "test")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
