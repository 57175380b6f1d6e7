"""The Python SDK: batches in, progress and results out, over the HTTP contract.

::

    from tanda.client import Client

    with Client("http://127.0.0.1:8420") as tanda:
        batch = tanda.upload(["invoices/"], name="noviembre")
        for update in tanda.watch(batch["id"]):
            print(update["progress"]["settled_pct"])
        tanda.download_results(batch["id"], "noviembre.json")
"""

from tanda.client.async_client import AsyncClient
from tanda.client.client import Client
from tanda.client.errors import TandaProblem, TandaUnreachable
from tanda.client.live import LiveEvent
from tanda.client.uploads import collect_files

__all__ = ["AsyncClient", "Client", "LiveEvent", "TandaProblem", "TandaUnreachable", "collect_files"]
