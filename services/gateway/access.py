"""Who is asking: API keys, or the operator on this machine where there are none.

Routes are exempt by being on a router without this dependency, never by their path.
"""

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from fastapi import Depends
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from services.gateway.problems import InvalidFields, problem
from tanda.contracts.subjects import is_tenant
from tanda.domain.errors import Refusal

DEFAULT_TENANT = "default"
ACTOR_CHARS_MAX = 100
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:\d{1,5})?")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Whose request this is."""

    #: The tenant of what is created and listed.
    tenant: str
    #: Reads and commands by id work across tenants.
    operator: bool
    #: May set limits and see the whole system.
    admin: bool = False
    #: Who, as far as we are told; recorded with what they do.
    actor: str = ""

    @property
    def scope(self) -> str | None:
        """What a view is asked with: None is every tenant."""
        return None if self.operator else self.tenant


class Keys:
    """The API keys, kept as digests; every key is compared on every request, in constant time."""

    def __init__(self, api_keys: str, operators: str = "") -> None:
        self._operators = frozenset(filter(None, (one.strip() for one in operators.split(","))))
        self._tenants = [_parse_key(entry) for entry in api_keys.split(",") if entry.strip()]

    @property
    def open(self) -> bool:
        return not self._tenants

    def is_operator(self, tenant: str) -> bool:
        """Whether a tenant's keys may also look after the system."""
        return tenant in self._operators

    def tenant_of(self, key: str) -> str | None:
        digest = sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for known, tenant in self._tenants:
            if hmac.compare_digest(known, digest):
                found = tenant
        return found


def _parse_key(entry: str) -> tuple[bytes, str]:
    tenant, colon, key = entry.strip().partition(":")
    if not colon or not key or not is_tenant(tenant):
        raise ValueError("TANDA_API_KEYS must be tenant:key pairs, separated by commas.")
    return sha256(key.encode()).digest(), tenant


def caller_of(keys: Keys, headers: Mapping[str, str]) -> Caller:
    """The caller by its credential; a Refusal with 401 where there is none that we know."""
    if keys.open:
        tenant = headers.get("tanda-tenant", DEFAULT_TENANT)
        if not is_tenant(tenant):
            raise InvalidFields(("Tanda-Tenant", "1 to 64 letters, digits, hyphens and underscores"))
        return Caller(tenant=tenant, operator=True, admin=True, actor=_actor(headers, "operator"))
    tenant = keys.tenant_of(_credential(headers))
    if tenant is None:
        detail = "This needs a valid key, as Authorization: Bearer KEY or X-Api-Key: KEY."
        raise Refusal("unauthenticated", detail, status=401, headers={"WWW-Authenticate": "Bearer"})
    return Caller(
        tenant=tenant, operator=False, admin=keys.is_operator(tenant), actor=_actor(headers, tenant)
    )


def _actor(headers: Mapping[str, str], default: str) -> str:
    """``Tanda-Actor``: the person behind a key, as the client names them; one line of plain text."""
    named = "".join(char for char in headers.get("tanda-actor", "") if char.isprintable()).strip()
    return named[:ACTOR_CHARS_MAX] or default


def _credential(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")


async def authenticate(request: Request) -> Caller:
    """The dependency of every route but health and the console's own static files.

    A coroutine like every dependency here: FastAPI would send a plain function through a thread.
    """
    return caller_of(request.app.state.keys, request.headers)


CallerDep = Annotated[Caller, Depends(authenticate)]


async def administrate(caller: CallerDep) -> None:
    """The dependency of routes that concern every tenant."""
    if not caller.admin:
        detail = "This needs a key of a tenant that TANDA_OPERATORS names."
        raise Refusal("operator_only", detail, status=403)


class OpenModeGuard:
    """Without keys only pages from this machine may ask: checks ``Host`` and ``Origin``.

    The first is against DNS rebinding, the second against other sites' scripts and forms.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] = _LOOPBACK_NAMES) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send)
            return
        await problem(403, *refusal, path=scope.get("path"))(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[str, str] | None:
        hosts = _values(scope, b"host")
        if len(hosts) != 1 or _host_name(hosts[0]) not in self.hosts:
            return "host_forbidden", "Without API keys the service answers under this machine's names only."
        for origin in _values(scope, b"origin"):
            if _origin_host(origin) != hosts[0].lower():
                return "origin_forbidden", "Without API keys the service answers to its own pages only."
        if scope.get("method") in _WRITES and "cross-site" in _values(scope, b"sec-fetch-site"):
            return "origin_forbidden", "Without API keys the service answers to its own pages only."
        return None


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _origin_host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as an IPv6 address without its bracket
        return ""


def _host_name(host: str) -> str:
    match = _HOST.fullmatch(host)
    return match[1].strip("[]").lower() if match else ""
