"""The DDL of a view, which lies beside its fold."""

from importlib.resources import files


def ddl(name: str) -> str:
    """The statements of ``<name>.sql``; names in them are without a schema."""
    return files("services.projector.views").joinpath(f"{name}.sql").read_text(encoding="utf-8")
