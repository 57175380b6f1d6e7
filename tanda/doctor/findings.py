"""What a look at the whole installation found, one finding a fact."""

import msgspec


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at."""

    #: What was looked at: ``log``, ``archive``, ``views`` …
    check: str
    ok: bool
    #: A sentence that explains.
    says: str
    #: Stable and machine-readable, where something is wrong: ``log_gap``, ``object_missing`` …
    code: str = ""
    #: What to do, where something is wrong.
    do: str = ""
    #: ``--repair`` can mend it.
    mendable: bool = False
    #: ``--repair`` has mended it.
    mended: bool = False
    #: What it is about, where that is more than one thing: keys, ids.
    about: list[str] = []


def well(check: str, says: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check=check, ok=True, says=says)


def wrong(
    check: str, code: str, says: str, do: str, *, mendable: bool = False, about: list[str] | None = None
) -> Finding:
    """Something is."""
    return Finding(check=check, ok=False, says=says, code=code, do=do, mendable=mendable, about=about or [])
