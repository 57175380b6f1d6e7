"""What the commands print: bars, tables and summaries."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from tanda.client import Client

#: Into a pipe nothing is cut to the width of a terminal that is not there.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 250)
_OUTCOMES = ("completed", "failed", "rejected", "cancelled")


def upload(client: Client, paths: Sequence[Path], fields: dict[str, Any]) -> dict[str, Any]:
    """Uploads with a bar of bytes; the sealed batch."""
    columns = (TextColumn("Uploading "), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("upload", total=sum(path.stat().st_size for path in paths))
        batch = client.upload(paths, on_bytes=lambda _name, sent: bar.advance(task, sent), **fields)
    console.print(f"Batch {batch['id']}: {batch['counts']['total']} files are safe; you may close this now.")
    return batch


def progress(client: Client, batch_id: str) -> dict[str, Any]:
    """Follows a batch to its end with a bar of files; the finished batch."""
    columns = (
        TextColumn("Processing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
    )  # fmt: skip
    batch: dict[str, Any] = {}
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("process", total=None, note="")
        for batch in client.watch(batch_id):
            counts = batch["counts"]
            settled = sum(counts[one] for one in _OUTCOMES)
            bar.update(task, total=counts["total"], completed=settled, note=_note(batch))
    return batch


def _note(batch: dict[str, Any]) -> str:
    parts = [f"{batch['counts'][one]} {one}" for one in _OUTCOMES if batch["counts"][one]]
    return ", ".join([*parts, batch["status"]])


def summary(batch: dict[str, Any]) -> None:
    """One line for the batch and one for each kind of outcome."""
    console.print(f"\n{batch['name']} ({batch['id']}): [bold]{batch['status']}[/bold]")
    for one in _OUTCOMES:
        if batch["counts"][one]:
            console.print(f"  {batch['counts'][one]:>6}  {one}")


def batches(found: Sequence[dict[str, Any]]) -> None:
    """A table, newest first."""
    table = Table(box=None, pad_edge=False)
    for title in ("id", "name", "status", "files", "done %", "created"):
        table.add_column(title, no_wrap=title == "id", overflow="fold")
    for one in found:
        table.add_row(
            one["id"], one["name"], one["status"], str(one["counts"]["total"]),
            f"{one['progress']['settled_pct']:.1f}", one["created_at"],
        )  # fmt: skip
    console.print(table)


def as_json(value: Any) -> None:
    """Any value as JSON on stdout, one document a line."""
    json.dump(value, sys.stdout, ensure_ascii=False)
    sys.stdout.write("\n")
    sys.stdout.flush()
