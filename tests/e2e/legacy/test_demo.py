"""The scripts of ``make demo-legacy``, each written from its system's documented calls."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.legacy.conftest import Older

RUN = Path(__file__).parents[3] / "demo" / "legacy" / "run.sh"


async def test_the_five_scripts_work_against_a_running_stack(older: Older) -> None:
    """They end well, and what each of them saw is what its system promised."""
    env = {**os.environ, "TANDA_URL": older.stack.url, "PYTHON": sys.executable}
    done = await asyncio.to_thread(
        subprocess.run, [str(RUN)], env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert "puedes salir de esta página" in said.lower() and "(48 de 51)" in said
    assert "44 completados, 4 fallidos, 91.7 %" in said
    assert "job-1 scheduled pending 8 clips, for 2099-01-01T09:00:00.000Z" in said
    assert '"type":"completed"' in said and "completed 7 1 100" in said
    assert "a reload shows the same" in said
    assert "tanda-cache: hit" in said.lower() and "_resultados.json" in said
    assert "La cámara falló" in said and "and with none left: HTTP 409" in said
