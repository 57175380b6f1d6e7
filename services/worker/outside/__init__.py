"""Work that leaves the house: processors that call an outside provider, from the worker's own event loop.

They are not sandboxed, since they never parse the file: they send it, and read a bounded answer.
"""

from services.worker.outside.calling import Call, Outside
from services.worker.outside.http import Http
from services.worker.outside.llm import Llm

__all__ = ["Call", "Http", "Llm", "Outside"]
