"""The README's tour, run as it stands there, in one shell, against a running Tanda."""

import os
import re
import subprocess
from pathlib import Path

from tests.running import Running

README = Path(__file__).parents[2] / "README.md"


async def test_the_tour_works_as_written(tanda: Running, tmp_path: Path) -> None:
    """Every bash block, in order; curl's own exit codes and the files it leaves are the proof."""
    blocks = re.findall(r"```bash\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) >= 5
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path, env={**os.environ, "TANDA_URL": tanda.url}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "event: snapshot" in done.stdout
    assert "type_mismatch" in (tmp_path / "files.json").read_text()
    assert "tanda-cache: hit" in done.stdout.lower()
    assert len(list(tmp_path.glob("bat_*_resultados.json"))) == 1
