"""The views there are."""

from services.projector.views.batches import Batches
from services.projector.views.files import Files
from services.projector.views.stats import Stats
from services.projector.views.view import View

VIEWS: dict[str, View] = {view.name: view for view in (Batches(), Files(), Stats())}
