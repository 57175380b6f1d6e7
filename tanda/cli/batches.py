"""``tanda upload``, ``batches``, ``show``, ``watch`` and ``results``."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from tanda.cli import show
from tanda.cli.target import Target
from tanda.client import collect_files

AsJson = Annotated[bool, Parameter(name="--json", negative="")]
HERE = Target()


def upload(
    path: Path, /, *more: Path, name: str | None = None, processor: str | None = None,
    priority: Literal["interactive", "normal", "bulk"] | None = None, watch: bool = False,
    json: AsJson = False, target: Target = HERE,
) -> int:  # fmt: skip
    """Upload files and folders as one batch; the same call again goes on where it was interrupted.

    Args:
        path: Files or folders.
        name: What to call the batch.
        processor: One processor for all files instead of one by type.
        priority: Its class among the waiting batches.
        watch: Follow it to its end.
        json: Print the batch as JSON.
    """
    files = collect_files([path, *more])
    fields: dict[str, Any] = {"name": name, "processor": processor, "priority": priority}
    with target.client() as client:
        if json:
            batch = client.upload(files, **fields)
            if watch:
                *_, batch = client.watch(batch["id"])
            show.as_json(batch)
            return _code(batch)
        batch = show.upload(client, files, fields)
        if watch:
            batch = show.progress(client, batch["id"])
            show.summary(batch)
    return _code(batch)


def list_batches(*, status: str | None = None, json: AsJson = False, target: Target = HERE) -> None:
    """List batches, newest first.

    Args:
        status: Only these: active, completed, failed, paused …
        json: One batch as JSON a line.
    """
    with target.client() as client:
        found = client.batches(status=status)
        if json:
            for one in found:
                show.as_json(one)
        else:
            show.batches(list(found))


def show_batch(batch_id: str, /, *, json: AsJson = False, target: Target = HERE) -> None:
    """Show one batch and what became of its files."""
    with target.client() as client:
        batch = client.batch(batch_id)
        if json:
            show.as_json(batch)
            return
        show.summary(batch)
        for file in client.files(batch_id):
            reason = f"  {file['error']['code']}: {file['error']['message']}" if file["error"] else ""
            show.console.print(f"  {file['status']:<10} {file['name']}{reason}", markup=False)


def watch(batch_id: str, /, *, json: AsJson = False, target: Target = HERE) -> int:
    """Follow a batch live to its end.

    Args:
        json: The batch as JSON, one line for each change.
    """
    batch: dict[str, Any] = {}
    with target.client() as client:
        if json:
            for batch in client.watch(batch_id):
                show.as_json(batch)
        else:
            batch = show.progress(client, batch_id)
            show.summary(batch)
    return _code(batch)


def results(
    batch_id: str, /, *, output: Annotated[Path | None, Parameter(name=["-o", "--output"])] = None,
    format: Literal["json", "ndjson", "csv", "zip"] = "json", target: Target = HERE,
) -> None:  # fmt: skip
    """Download a batch's results.

    Args:
        output: The file to write; without it {id}_resultados.{format} here.
        format: json, ndjson, csv or zip.
    """
    output = output or Path(f"{batch_id}_resultados.{format}")
    with target.client() as client:
        written = client.download_results(batch_id, output, format=format)
    show.console.print(f"{output}: {written} bytes", markup=False)


def _code(batch: dict[str, Any]) -> int:
    """1 where a finished batch has nothing to show for it."""
    return 1 if batch.get("status") in ("failed", "cancelled") else 0
