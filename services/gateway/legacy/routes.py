"""The routes of the five older front ends, one file per system: translations without a state of their own."""

from services.gateway.legacy import image_queue, lotes, metricool, universal_invoice, workflows

ROUTERS = (
    universal_invoice.router,
    metricool.router,
    workflows.router,
    lotes.router,
    image_queue.router,
)
