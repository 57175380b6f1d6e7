"""The three kinds of wrong.

::

    TandaError
    ├── Refusal               a command or a request that the state or the rules forbid: a 4xx
    │   ├── NotFound          404
    │   └── StateForbids      409, with the state
    └── WorldFailure          something outside does not do its part: a retry, or a 503
        ├── Unavailable       a server does not answer; nothing is known to be done
        ├── Conflict          someone else wrote first; read again and decide again
        └── LogDamaged        the log has a gap or went back: stop and alarm, never go on

A bug is neither: it is an assertion and a crash.
"""

from typing import Any


class TandaError(Exception):
    """The root of the errors that this product raises on purpose."""


class Refusal(TandaError):
    """Says no to a caller, with a stable code and a sentence that helps."""

    status = 422

    def __init__(self, code: str, detail: str, *, status: int | None = None, **fields: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.status = status or type(self).status
        #: Further members of the problem document.
        self.fields = fields


class NotFound(Refusal):
    """There is no such thing, or it is somebody else's: no answer tells which."""

    status = 404


class StateForbids(Refusal):
    """The command makes no sense in this state, which is named."""

    status = 409

    def __init__(self, code: str, detail: str, state: str) -> None:
        super().__init__(code, detail, state=state)


class WorldFailure(TandaError):
    """Something outside the process failed; wrapped once, at the adapter."""


class Unavailable(WorldFailure):
    """A server did not answer or refused service: the request may be repeated later."""

    def __init__(self, dependency: str, detail: str, *, retry_after_s: float = 2.0) -> None:
        super().__init__(f"{dependency}: {detail}")
        self.dependency = dependency
        self.detail = detail
        self.retry_after_s = retry_after_s


class Conflict(WorldFailure):
    """The subject's last event is not the expected one: decide again on what is there now."""

    def __init__(self, subject: str, expected_seq: int) -> None:
        super().__init__(f"{subject}: the last position is no longer {expected_seq}")
        self.subject = subject
        self.expected_seq = expected_seq


class LogDamaged(WorldFailure):
    """The log lacks events it once had. Going on would build on a lie; `tanda doctor` tells more."""
