"""The OpenAPI document: paths and parameters from the routes, bodies from the msgspec types.

FastAPI knows the routes; what it would say of bodies is replaced by the schemas of the very types that
encode and decode them, so that the document cannot differ from the wire.
"""

from typing import Any

import msgspec
from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.access import authenticate
from tanda.contracts.http import OpenBatch, Problem

router = APIRouter(dependencies=[Depends(authenticate)])

_REF = "#/components/schemas/{name}"
#: Every type that a route names, in the order of naming.
_known: dict[str, Any] = {}


def answers(
    status: int,
    kind: Any,
    *,
    media_type: str = "application/json",
    body: Any = None,
    multipart: bool = False,
    files: bool = False,
) -> dict[str, Any]:
    """What a route answers and takes, for its ``openapi_extra``."""
    content = {media_type: {"schema": _schema(kind)}}
    operation: dict[str, Any] = {
        "responses": {str(status): {"description": "Done.", "content": content}, "default": _problem()}
    }
    taken: dict[str, Any] = {}
    if body is not None:
        taken["application/octet-stream" if body is bytes else "application/json"] = {"schema": _schema(body)}
    if multipart or files:
        taken["multipart/form-data"] = {"schema": _form_schema(fields=multipart)}
    if taken:
        operation["requestBody"] = {"required": True, "content": taken}
    return operation


def install(app: FastAPI) -> None:
    """Makes the application describe itself with our types."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, routes=app.routes)
    _, components = msgspec.json.schema_components([*_known.values(), Problem], ref_template=_REF)
    document["components"] = {
        "schemas": dict(sorted(components.items())),
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        },
    }
    document["security"] = [{"bearer": []}, {"key": []}]
    for path in document["paths"].values():
        for operation in path.values():
            # FastAPI's own idea of errors and of an undeclared 200
            operation["responses"].pop("422", None)
            operation["responses"].update({"default": _problem()})
            declared = operation["responses"]
            if (
                "200" in declared
                and len(declared) > 2
                and not declared["200"]
                .get("content", {})
                .get("application/json", {"schema": {}})
                .get("schema")
            ):
                declared.pop("200")
    return document


def _schema(kind: Any) -> dict[str, Any]:
    if kind is bytes:
        return {"type": "string", "format": "binary"}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    _known[repr(kind)] = kind
    return schema


def _problem() -> dict[str, Any]:
    schema = {"$ref": _REF.format(name="Problem")}
    return {"description": "What went wrong.", "content": {"application/problem+json": {"schema": schema}}}


def _form_schema(*, fields: bool) -> dict[str, Any]:
    """The files, and the fields of the JSON form as text where they belong to it."""
    _, components = msgspec.json.schema_components([OpenBatch], ref_template=_REF)
    names = [name for name in components["OpenBatch"]["properties"] if name != "open"]
    parts: dict[str, Any] = {name: {"type": "string"} for name in names if fields}
    if fields:
        parts["tags"] = {"type": "array", "items": {"type": "string"}}
    parts["files"] = {"type": "array", "items": {"type": "string", "format": "binary"}}
    return {"type": "object", "properties": parts, "required": ["files"]}


@router.get("/openapi.json", include_in_schema=False)
async def document(request: Request) -> Response:
    """This API, described by the types that it is made of."""
    return Response(msgspec.json.encode(request.app.openapi()), media_type="application/json")
