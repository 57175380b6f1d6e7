"""What can go wrong between a client and the gateway."""

from typing import Any

import httpx2


class TandaUnreachable(Exception):
    """Nobody answers at the gateway's address."""


class TandaProblem(Exception):
    """The gateway refused: an RFC 9457 problem with its stable ``code``."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status = status
        self.code: str = body.get("code", "unknown")
        self.detail: str = body.get("detail") or body.get("title") or f"HTTP {status}"
        self.body = body
        super().__init__(f"{self.detail} ({self.code})")


def raise_for_problem(response: httpx2.Response) -> None:
    """Raises what an answer of 400 or more says."""
    if response.status_code < 400:
        return
    response.read()
    try:
        body = response.json()
    except ValueError:
        body = {"detail": response.text[:200]}
    raise TandaProblem(response.status_code, body if isinstance(body, dict) else {"detail": str(body)})
