"""The OpenAPI description of one pipeline."""

import json
from pathlib import Path
from typing import Any

from bettong._signature import Signature, TensorSpec

_TEXT = {"type": "string"}
_ARROW = ("application/vnd.apache.arrow.file", "application/vnd.apache.arrow.stream")


def api_spec(name: str, signature: Signature, server_url: str, path: str | Path | None) -> dict[str, Any]:
    """Build the description and write it to *path* if given."""
    spec = {
        "openapi": "3.1.0",
        "info": {"title": f"Pipeline {name}", "version": "1"},
        "servers": [{"url": server_url}],
        "paths": {f"/v1/pipelines/{name}/infer": {"post": _operation(name, signature)}},
    }
    if path is not None:
        Path(path).write_text(json.dumps(spec, indent=2) + "\n", encoding="utf-8")
    return spec


def _operation(name: str, signature: Signature) -> dict[str, Any]:
    columns = {spec.name: _cell(spec) for spec in signature.inputs}
    return {
        "operationId": "infer",
        "summary": f"Run rows through {name}",
        "parameters": [
            _query("dataset[]", "Columns or groups of columns to return; all if absent.", is_list=True),
            _query("dataset.exclude[]", "Columns or groups to leave out.", is_list=True),
            _query("dataset.separator", "Joins the parts of a name; without it the records are nested.", is_list=False),
        ],
        "requestBody": {"required": True, "content": _content(_records(columns))},
        "responses": {
            "200": {"description": "One record a row.", "content": _content(_records(_reply(signature)))},
            "400": _error("The rows do not fit; the message names column and row."),
            "404": _error("There is no such pipeline."),
            "429": _error("A bound is reached; try again after Retry-After."),
            "503": _error("The pipeline does not serve."),
        },
    }


def _reply(signature: Signature) -> dict[str, Any]:
    def group(specs: tuple[TensorSpec, ...]) -> dict[str, Any]:
        return {"type": "object", "properties": {spec.name: _cell(spec) for spec in specs}}

    return {
        "time": {"type": "integer", "description": "Milliseconds since the Unix epoch."},
        "in": group(signature.inputs),
        "out": group(signature.outputs),
        "anomaly": {"type": "object", "properties": {"count": {"type": "integer"}}},
        "metadata": {"type": "object"},
    }


def _records(properties: dict[str, Any]) -> dict[str, Any]:
    record = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "array", "minItems": 1, "items": record}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary"}}
    return {"application/json": {"schema": schema}} | dict.fromkeys(_ARROW, binary)


def _cell(spec: TensorSpec) -> dict[str, Any]:
    """Describe what one row has: nested lists for every axis but the first."""
    schema = _element(spec.datatype)
    for size in reversed(spec.shape[1:]):
        schema = {"type": "array", "items": schema}
        if size > 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _element(datatype: str) -> dict[str, Any]:
    if datatype == "BOOL":
        return {"type": "boolean"}
    if datatype == "BYTES":
        return dict(_TEXT)
    return {"type": "integer"} if "INT" in datatype else {"type": "number"}


def _query(name: str, description: str, *, is_list: bool) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "array", "items": _TEXT} if is_list else dict(_TEXT)
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _error(description: str) -> dict[str, Any]:
    properties = {"error": _TEXT, "code": {"type": "integer"}, "status": _TEXT, "source": _TEXT}
    schema = {"type": "object", "properties": properties, "required": ["error"]}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
