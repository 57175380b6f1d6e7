"""The result JSON of a batch: built from the log alone, stored once per version, rebuilt when gone.

Built from the same events it is the same bytes, whoever builds it and however often: nothing in it
comes from a clock, from an order of arrival or from the build. One pass over the batch's events keeps
a light record of each file and spools the entries of those with a result, so that memory stays small
however large they are; then the document is put together in upload order::

    log.read(batch) ──▶ fold ──▶ spool ──▶ memory, or a file ──▶ blobs ──▶ BatchCompleted
"""

from tanda.results.cache import CONTENT_TYPE, ResultsCache
from tanda.results.document import Built, ResultLost, build, results_key, sweep
from tanda.results.drafts import Drafts

__all__ = ["CONTENT_TYPE", "Built", "Drafts", "ResultLost", "ResultsCache", "build", "results_key", "sweep"]
