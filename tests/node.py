"""The console's own packages, for the tests that need Node; a skip that says so where they cannot be had."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house.sources import ROOT

CONSOLE = ROOT / "console"
#: What Vite asks for.
NODE_MIN = (20, 19)


def console_copy(folder: Path) -> Path:
    """A copy of the console with its packages: those that are installed, if they are what the lock says."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm, which this test of the console needs")
    asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False).stdout
    if tuple(map(int, asked.strip().lstrip("v").split(".")[:2] or [0])) < NODE_MIN:
        pytest.skip(f"Node is {asked.strip()}, which is too old for the console's build")
    shutil.copytree(CONSOLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    installed = CONSOLE / "node_modules"
    if _is_current(installed):
        (folder / "node_modules").symlink_to(installed)
        return folder
    done = npm(folder, "ci", "--no-audit", "--no-fund")
    if done.returncode and "network" in done.stderr:
        pytest.skip("the console's packages cannot be fetched, which this test needs")
    assert done.returncode == 0, done.stderr
    return folder


def _is_current(installed: Path) -> bool:
    record = installed / ".package-lock.json"
    if not record.exists():
        return False
    there = json.loads(record.read_text())["packages"]
    locked = json.loads((CONSOLE / "package-lock.json").read_text())["packages"]
    wanted = {name: one["version"] for name, one in locked.items() if name and not one.get("optional")}
    return wanted.items() <= {name: one["version"] for name, one in there.items()}.items()


def npm(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """A run of npm in that folder, with what it said."""
    return subprocess.run(["npm", *arguments], cwd=folder, capture_output=True, text=True, check=False)
