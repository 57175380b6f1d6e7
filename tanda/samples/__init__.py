"""The bundled sample batch: 51 files as a small company gets them, most of them right, seven of them not.

    paths = write_samples(Path("samples"))
    sample_truth()["vacio.csv"]     # {"status": "rejected", "code": "empty_file"}

Companies, numbers and amounts are invented; tax numbers have right check digits. The same seed gives the same
bytes with the same versions of the libraries that draw and compress.
"""

from pathlib import Path
from typing import Any

from tanda.samples.batch import samples

__all__ = ["sample_truth", "write_samples"]


def write_samples(folder: Path, seed: int = 1) -> list[Path]:
    """Writes all 51 into ``folder``, which is made where it is missing; OSError where it cannot be."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for sample in samples(seed):
        path = folder / sample.name
        path.write_bytes(sample.make())
        paths.append(path)
    return paths


def sample_truth(seed: int = 1) -> dict[str, dict[str, Any]]:
    """What a right result says of each file, by name.

    ``status`` is ``completed``, ``failed`` or ``rejected`` (at the upload); the latter two have a ``code``.
    Completed files have a ``kind`` (``invoice``, ``pdf``, ``image`` or ``table``). Invoices, also those that
    are a PDF, have ``number``, ``total`` (a decimal string), ``currency``, ``seller`` and ``seller_tax_id``;
    a PDF has ``attachment``, the name of its embedded invoice or None, and ``text`` that it contains; a
    picture has ``width``, ``height``, ``orientation`` and ``barcodes``; a table ``rows`` and ``columns``.
    """
    return {sample.name: sample.truth for sample in samples(seed)}
