"""The subjects of the log, the work queue and the timers.

``ev.<tenant>.<batch>._`` is a batch, ``ev.<tenant>.<batch>.<file>`` a file or a group of files: the subject
names the aggregate, never the event's type, since optimistic concurrency is only safe on an exact subject.
"""

import re

#: The file token of a batch's own subject.
BATCH_TOKEN = "_"  # noqa: S105 - a subject token
#: What the token of a group of files begins with; no file's id does.
_GROUP_PREFIX = "grp_"
#: The tenant of what is nobody's: no credential may have it.
NO_TENANT = "_"
#: Where ``LimitsChanged`` is: an aggregate of its own.
LIMITS_SUBJECT = f"ev.{NO_TENANT}.limits.{BATCH_TOKEN}"
EVENTS_ALL = "ev.>"
LIVE_PREFIX = "live."
WORK_ALL = "work.>"
TIMER_SET_ALL = "timer.set.>"
TIMER_DUE_ALL = "timer.due.>"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_token(text: str) -> bool:
    """Whether a string may be one token of a subject."""
    return bool(_TOKEN.fullmatch(text))


def is_tenant(text: str) -> bool:
    """Whether a string may be a tenant's name."""
    return is_token(text) and text != NO_TENANT


def batch_subject(tenant: str, batch_id: str) -> str:
    return f"ev.{tenant}.{batch_id}.{BATCH_TOKEN}"


def file_subject(tenant: str, batch_id: str, file_id: str) -> str:
    return f"ev.{tenant}.{batch_id}.{file_id}"


def group_token(number: int) -> str:
    """Stands where a file's id would: the group of that number in its batch."""
    return f"{_GROUP_PREFIX}{number}"


def is_group(token: str) -> bool:
    """Whether a token in the place of a file's id is that of a group."""
    return token.startswith(_GROUP_PREFIX)


def batch_all(tenant: str, batch_id: str) -> str:
    """The filter for everything of one batch: its own events and its files'."""
    return f"ev.{tenant}.{batch_id}.>"


def tenant_all(tenant: str) -> str:
    return f"ev.{tenant}.>"


def work_subject(lane: str, tenant: str, batch_id: str, file_id: str) -> str:
    return f"work.{lane}.{tenant}.{batch_id}.{file_id}"


def work_batch_all(tenant: str, batch_id: str) -> str:
    """The filter for a batch's items in every lane of the work queue."""
    return f"work.*.{tenant}.{batch_id}.>"


def timer_subjects(tenant: str, batch_id: str, file_id: str) -> tuple[str, str]:
    """Where a schedule is set, and where it comes out when it is due."""
    return (f"timer.set.{tenant}.{batch_id}.{file_id}", f"timer.due.{tenant}.{batch_id}.{file_id}")


def parse_event_subject(subject: str) -> tuple[str, str, str | None]:
    """Tenant, batch and file or group (None for the batch itself); ValueError for any other subject."""
    parts = subject.split(".")
    if len(parts) != 4 or parts[0] != "ev":
        raise ValueError(f"not an event subject: {subject!r}")
    return parts[1], parts[2], None if parts[3] == BATCH_TOKEN else parts[3]
