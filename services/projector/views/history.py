"""The view of what happened: every event as clients see it, by batch and file."""

from collections.abc import Sequence

import msgspec

from services.projector.views.schema import ddl
from tanda.contracts.codec import encode
from tanda.contracts.envelope import Recorded, to_cloudevent
from tanda.contracts.events import NO_RESULT, FileCompleted
from tanda.contracts.views import Column, Table, Write

EVENTS = Table(
    name="events",
    key=("batch_id", "file_id", "seq"),
    columns={
        "batch_id": Column("text"),
        "file_id": Column("text"),
        "seq": Column("bigint"),
        "tenant": Column("text"),
        "envelope": Column("text"),
    },
)


class History:
    """``GET /v1/batches/{id}/files/{file_id}/history``."""

    name = "history"
    version = 1
    ddl = ddl("history")
    tables = (EVENTS,)

    def fold(self, events: Sequence[Recorded]) -> list[Write]:
        if not events:
            return []
        columns: list[list[object]] = [
            [record.batch_id for record in events],
            [record.file_id or "" for record in events],
            [record.seq for record in events],
            [record.tenant for record in events],
            [envelope(record) for record in events],
        ]
        return [Write(table=EVENTS.name, names=tuple(EVENTS.columns), columns=columns, rows=len(events))]


def envelope(record: Recorded) -> str:
    """The CloudEvents JSON, without an inline result: its digest and size tell of it."""
    event = record.event
    if isinstance(event, FileCompleted):
        event = msgspec.structs.replace(event, result=NO_RESULT)
    return encode(to_cloudevent(record, event)).decode()
