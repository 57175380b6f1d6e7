"""The version of a view's code, which its checkpoint names."""

from functools import cache
from hashlib import sha256

from services.projector.views.view import View


@cache
def version_of(view: View) -> str:
    """Changes with the tables and with ``view.version``: rows of another version are rebuilt."""
    digest = sha256(f"{view.version}\0{view.ddl}".encode()).hexdigest()
    return f"{view.version}-{digest[:12]}"
