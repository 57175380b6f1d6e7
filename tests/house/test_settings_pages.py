"""The pages that list the settings name all of them, with the defaults that the code has."""

import re
from pathlib import Path

import pytest

from tanda.settings import Settings

ROOT = Path(__file__).parents[2]
ENV_EXAMPLE = (ROOT / "deploy" / "env.example").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
NAMES = Settings.__struct_fields__


def test_env_example_has_every_default() -> None:
    """One commented line for each number, with the value that holds without it."""
    lines = dict(re.findall(r"^#?(TANDA_\w+)=(.*)$", ENV_EXAMPLE, re.MULTILINE))
    missing = [name for name in NAMES if f"TANDA_{name.upper()}" not in lines]
    assert not missing
    numbers = [name for name in NAMES if isinstance(getattr(Settings(), name), (int, float))]
    wrong = {
        name: lines[f"TANDA_{name.upper()}"]
        for name in numbers
        if float(lines[f"TANDA_{name.upper()}"].replace("false", "0")) != float(getattr(Settings(), name))
    }
    assert not wrong


@pytest.mark.parametrize("name", NAMES)
def test_operations_lists_the_setting(name: str) -> None:
    """Every setting has its row."""
    assert f"| `TANDA_{name.upper()}` |" in OPERATIONS
