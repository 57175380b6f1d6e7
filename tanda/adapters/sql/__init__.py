"""The SQL of the adapters: files of named statements, in this folder."""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def named(file: str) -> Mapping[str, str]:
    """The statements of ``<file>.sql`` by the name in the comment above each."""
    text = files("tanda.adapters.sql").joinpath(f"{file}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {name: sql.strip().rstrip(";") for name, sql in zip(parts[::2], parts[1::2], strict=True)}
