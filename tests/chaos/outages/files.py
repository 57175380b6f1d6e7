"""Many different files out of few: the same ones again, each with other bytes."""

from itertools import cycle, islice
from pathlib import Path

from tanda.samples import write_samples
from tests.integration.sandbox.test_real_files import ROOT, ROWS


def write_files(folder: Path, count: int) -> list[Path]:
    """``count`` files with names and digests of their own: every kind of them bears a line's end more."""
    folder.mkdir()
    models = [ROOT / row["path"] for row in ROWS]
    if not models:
        (folder / "samples").mkdir()
        models = write_samples(folder / "samples")
    written: list[Path] = []
    for number, model in enumerate(islice(cycle(models), count)):
        turn = number // len(models)
        path = folder / f"{turn}-{number:03}-{model.name}"
        path.write_bytes(model.read_bytes() + b"\n" * turn)
        written.append(path)
    return written
