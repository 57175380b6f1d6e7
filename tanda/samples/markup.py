"""Builds XML text from nested calls: ``el("a", el("b", 1), key="c")``."""

from textwrap import indent
from xml.sax.saxutils import escape, quoteattr

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'


class Markup(str):
    """Text that is XML already."""

    __slots__ = ()


def el(name: str, *content: object, attrs: dict[str, object] | None = None, **more: object) -> Markup:
    """One element: ``content`` is elements, or one text, or nothing; a None is left out."""
    parts = [part for part in content if part is not None]
    given = {**(attrs or {}), **more}
    start = name + "".join(f" {key}={quoteattr(str(value))}" for key, value in given.items())
    if not parts:
        return Markup(f"<{start}/>")
    if all(isinstance(part, Markup) for part in parts):
        inner = indent("\n".join(str(part) for part in parts), "  ")
        return Markup(f"<{start}>\n{inner}\n</{name}>")
    return Markup(f"<{start}>{escape(''.join(str(part) for part in parts))}</{name}>")


def document(root: Markup) -> bytes:
    """The root as a UTF-8 file."""
    return f"{_DECLARATION}{root}\n".encode()
