"""``python -m tests.chaos.outages [STORY…]``: batches of 500 files through outages, and what was seen.

The files are the real ones (``tests.integration.sandbox.test_real_files`` says where) over and over, each
time with a line's end more, or the samples where there are none. Each story has a folder of its own.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.outages.aftermath import aftermath
from tests.chaos.outages.files import write_files
from tests.chaos.outages.stories import STORIES
from tests.provider import provider
from tests.running import running

FILES = 500


async def tell(name: str, folder: Path) -> None:
    """One story in a folder of its own, and what must hold after it."""
    began = time.monotonic()
    story = STORIES[name]
    folder.chmod(0o711)
    paths = write_files(folder / "files", FILES)
    async with provider(story.answer, work_s=0.01) as outside:
        env = {"TANDA_HTTP_ENDPOINTS": f"outside={outside.url}", "TANDA_PROVIDER_LIMIT": "30"}
        async with running(folder / "data", workers=2, env=env) as stack:
            batch_id, seen = await story.happens(stack, paths)
            seen |= await aftermath(stack, batch_id, len(paths))
    print(f"{name}: {seen}; {time.monotonic() - began:.0f} s", flush=True)


def main(names: list[str]) -> None:
    for name in names or list(STORIES):
        with tempfile.TemporaryDirectory(prefix="tanda-outage-") as folder:
            asyncio.run(tell(name, Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1:])
