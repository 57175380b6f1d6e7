"""Imported first by whatever is started as a process: what its libraries would load for nothing stays out.

structlog draws tracebacks for terminals with rich where that is installed (the command line's parser brings
it), and ours are JSON; minio's package loads its admin client, and with that ciphers and a C parser. Together
a quarter of a service's start and 12 MB of each.
"""

import gc
import sys
from types import ModuleType
from typing import Any, cast

#: As ``tanda.collector`` has it later: a library being loaded leaves no garbage worth looking for.
gc.set_threshold(100_000, 50, 100)


def _load_structlog() -> None:
    """Without rich, which whoever wants it can load afterwards."""
    modules = cast("dict[str, Any]", sys.modules)
    if "rich" in modules or "structlog" in modules:
        return
    modules["rich"] = None  # the import system's own word for "not installed"
    try:
        import structlog  # noqa: F401  # pyright: ignore[reportUnusedImport]
    finally:
        del modules["rich"]


def _leave_out_minio_admin() -> None:
    admin = ModuleType("minio.minioadmin", "Left out: see tanda.lean.")
    setattr(admin, "MinioAdmin", None)  # noqa: B010 - a module's type knows no such attribute
    sys.modules.setdefault("minio.minioadmin", admin)


_load_structlog()
_leave_out_minio_admin()
