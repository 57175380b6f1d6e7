"""Who may ask, and that every error is a problem document with a stable code."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from tanda.domain.errors import Unavailable
from tests.integration.gateway.stand import HeldViews, Stand, parts, settings_in, xml

KEYS = "acme:key-of-acme,globex:key-of-globex"
#: The only routes without a credential; the console's files hold nothing.
PUBLIC = {"/healthz", "/readyz", "/version", "/", "/console/{name}", "/v1/callbacks/{token}"}
ACME = {"Authorization": "Bearer key-of-acme"}
GLOBEX = {"X-Api-Key": "key-of-globex"}


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(settings_in(tmp_path, api_keys=KEYS)).running() as stand:
        yield stand


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    async with Stand(settings_in(tmp_path)).running() as stand:
        yield stand


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Every method and path that the application answers."""
    found: set[tuple[str, str]] = set()
    for context in iter_route_contexts(app.routes):
        for method in getattr(context, "methods", None) or ():
            found.add((method, str(context.path)))
    return found


def test_routes_are_made_once(stand: Stand) -> None:
    """Those of an included router are made anew within the first request, which takes 0.1 s of CPU."""
    assert {type(route) for route in stand.app.routes} == {APIRoute}


async def test_every_route_wants_a_credential(keyed: Stand) -> None:
    """Streams, metrics and the API's own description included; health alone is open."""
    known = routes(keyed.app)
    assert ("GET", "/v1/events") in known and ("GET", "/metrics") in known and len(known) > 20
    async with httpx2.AsyncClient(base_url=keyed.url) as http:
        for method, template in known:
            path = template.replace("{", "x").replace("}", "")
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"X-Api-Key": ""}):
                response = await http.request(
                    method, path.replace("{", "x").replace("}", ""), headers=headers
                )
                if template in PUBLIC:
                    assert response.status_code != 401, path
                else:
                    assert response.status_code == 401, (method, path)
                    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_foreign_batch_is_like_none(keyed: Stand) -> None:
    """Every route with an id answers another tenant's as it answers an unknown one."""
    async with httpx2.AsyncClient(base_url=keyed.url) as http:
        made = await http.post("/v1/batches", files=parts(("a.xml", xml())), headers=ACME)
        assert made.status_code == 201
        mine = made.json()["id"]
        file = (await http.get(f"/v1/batches/{mine}/files", headers=ACME)).json()["data"][0]["id"]
        unknown = "bat_01M7YBFJQ3PKAQCAMRHQBYR6V4"
        for method, path in sorted(routes(keyed.app)):
            if "{batch_id}" not in path:
                continue
            answers: list[tuple[int, Any]] = []
            for batch_id in (mine, unknown):
                url = path.replace("{batch_id}", batch_id).replace("{file_id}", file)
                url = url.replace("{name:path}", "a.xml").replace("{name}", "a.xml")
                response = await http.request(method, url, headers=GLOBEX, params={"index": 0})
                body = response.json() if method != "HEAD" else {"instance": ""}
                answers.append((response.status_code, {**body, "instance": ""}))
            assert answers[0][0] == 404 and answers[0] == answers[1], (method, path, answers)
        lists = (await http.get("/v1/batches", headers=GLOBEX)).json()
        assert lists["data"] == []
        spoofed = await http.get("/v1/batches", headers={**GLOBEX, "Tanda-Tenant": "acme"})
        assert spoofed.json()["data"] == []


async def test_open_mode_is_for_this_machine_only(stand: Stand) -> None:
    """Foreign Host and Origin are refused, the service's own pages are not."""
    own = stand.url.removeprefix("http://")
    refused = [
        ({"Host": "evil.example"}, "host_forbidden"),
        ({"Host": "localhost.evil.example"}, "host_forbidden"),
        ({"Host": "127.0.0.1@evil.example"}, "host_forbidden"),
        ({"Origin": "http://evil.example"}, "origin_forbidden"),
        ({"Origin": "null"}, "origin_forbidden"),
        ({"Origin": "http://[::1"}, "origin_forbidden"),
        ({"Sec-Fetch-Site": "cross-site"}, "origin_forbidden"),
    ]
    async with httpx2.AsyncClient(base_url=stand.url) as http:
        for headers, code in refused:
            response = await http.post("/v1/batches", json={}, headers=headers)
            assert (response.status_code, response.json()["code"]) == (403, code), headers
        for headers in ({"Origin": stand.url}, {"Host": own.replace("127.0.0.1", "localhost")}):
            assert (await http.post("/v1/batches", json={}, headers=headers)).status_code == 201
        bad = await http.get("/v1/batches", headers={"Tanda-Tenant": "a.b"})
        assert bad.status_code == 422
    assert await stand.log.position() == 2


async def test_the_operator_reads_across_tenants(stand: Stand) -> None:
    """By id any batch; lists and new batches are the named tenant's."""
    async with httpx2.AsyncClient(base_url=stand.url) as http:
        acme = {"Tanda-Tenant": "acme"}
        url = (await http.post("/v1/batches", files=parts(("a.xml", xml())), headers=acme)).json()["urls"]
        assert (await http.get(url["self"])).status_code == 200
        assert (await http.post(f"{url['self']}/pause")).status_code == 202
        assert (await http.get("/v1/batches")).json()["data"] == []
        assert len((await http.get("/v1/batches", headers=acme)).json()["data"]) == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "route_not_found"),
        ("DELETE", "/v1/batches", 405, "method_not_allowed"),
        ("GET", "/v1/batches?limit=0", 422, "invalid_fields"),
        ("GET", "/v1/batches?limit=x", 422, "invalid_fields"),
        ("GET", "/v1/batches?status=nope", 422, "invalid_fields"),
        ("GET", "/v1/batches?cursor=nope", 400, "invalid_cursor"),
        ("GET", "/v1/batches/nope", 404, "batch_not_found"),
        ("GET", "/v1/batches/bat_01M7YBFJQ3PKAQCAMRHQBYR6V4/results", 404, "batch_not_found"),
        ("GET", "/v1/stats?days=0", 422, "invalid_fields"),
        ("GET", "/v1/batches/../../etc/passwd", 404, None),
    ],
)
async def test_errors_are_problems(
    stand: Stand, method: str, path: str, status: int, code: str | None
) -> None:
    """RFC 9457 with a stable code, for the framework's own errors too."""
    async with httpx2.AsyncClient(base_url=stand.url) as http:
        response = await http.request(method, path)
    body = response.json()
    assert response.status_code == status and response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "detail", "code", "instance"} <= set(body)
    assert code is None or body["code"] == code, body
    assert response.headers["x-content-type-options"] == "nosniff"


class BrokenViews(HeldViews):
    """Views with a bug, or without a server."""

    error: Exception = ZeroDivisionError("a secret of ours")

    async def position(self) -> int:
        raise self.error


async def test_a_bug_tells_its_id_and_nothing_else(tmp_path: Path) -> None:
    """The traceback is in the log under that id."""
    stand = Stand(settings_in(tmp_path))
    views = BrokenViews(stand.log, ())
    stand = Stand(settings_in(tmp_path), views=views)
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        response = await http.get("/v1/batches")
        assert (response.status_code, response.json()["code"]) == (500, "internal_error")
        assert "err_" in response.json()["detail"] and "secret" not in response.text
        views.error = Unavailable("postgres", "password=secret", retry_after_s=3)
        response = await http.get("/v1/batches")
        assert (response.status_code, response.json()["code"]) == (503, "unavailable")
        assert response.headers["retry-after"] == "3" and "secret" not in response.text


async def test_ready_names_what_is_missing(tmp_path: Path) -> None:
    """Each dependency by name, within the deadline although one hangs."""

    async def works() -> None:
        return

    async def fails() -> None:
        raise Unavailable("postgres", "down")

    stand = Stand(settings_in(tmp_path), checks={"nats": works, "postgres": fails})
    async with stand.running(), httpx2.AsyncClient(base_url=stand.url) as http:
        ready = await http.get("/readyz")
        assert ready.status_code == 503
        assert ready.json()["checks"] == {"nats": "ok", "postgres": "unavailable"}
        assert (await http.get("/healthz")).json()["status"] == "ok"
        assert (await http.get("/version")).json()["name"] == "tanda"
        assert "tanda_gateway_requests_total" in (await http.get("/metrics")).text


async def test_half_a_request_is_cut(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers that never end do not hold a connection."""
    monkeypatch.setattr("services.gateway.live.connection.HEADERS_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(stand.url.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_the_console_runs_under_a_strict_policy(stand: Stand) -> None:
    """Its own files only, nothing inline; what is not one of them is not there."""
    async with httpx2.AsyncClient(base_url=stand.url) as http:
        page = await http.get("/")
        policy = page.headers["content-security-policy"]
        assert "script-src 'self'" in policy and "unsafe" not in policy and "default-src 'none'" in policy
        assert "<script>" not in page.text and "style=" not in page.text and "onclick" not in page.text
        named = re.findall(r"/console/([\w.-]+\.(js|css))\"", page.text)
        assert {kind for _, kind in named} == {"js", "css"}
        for name, kind in ((name, {"js": "text/javascript", "css": "text/css"}[end]) for name, end in named):
            asset = await http.get(f"/console/{name}")
            assert asset.status_code == 200 and asset.headers["content-type"].startswith(kind)
            cached = await http.get(f"/console/{name}", headers={"If-None-Match": asset.headers["etag"]})
            assert cached.status_code == 304
        for name in ("..%2f__main__.py", "index.py", "build.json", "nothing.js"):
            assert (await http.get(f"/console/{name}")).status_code == 404
