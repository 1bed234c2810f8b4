"""The OpenAPI description of a pipeline."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

import bettong
from bettong._api_spec import api_spec

SIGNATURE = bettong.Signature(
    inputs=(bettong.TensorSpec("x", "FP32", (-1, 2)), bettong.TensorSpec("word", "BYTES", (-1,))),
    outputs=(bettong.TensorSpec("y", "INT64", (-1, 1)), bettong.TensorSpec("flag", "BOOL", (-1,))),
)


def _schema(spec: dict[str, Any], *path: str) -> dict[str, Any]:
    found: Any = spec["paths"]["/v1/pipelines/p/infer"]["post"]
    for key in path:
        found = found[key]
    schema = found["content"]["application/json"]["schema"]
    assert isinstance(schema, dict)
    return schema


def test_request_schema_takes_rows_that_fit_and_no_others() -> None:
    """A row with each input of the right width is valid, others are not."""
    schema = _schema(api_spec("p", SIGNATURE, "http://h", None), "requestBody")
    jsonschema.validate([{"x": [1.0, 2], "word": "a"}], schema)
    for bad in ([], [{"x": [1.0], "word": "a"}], [{"x": [1.0, 2.0]}], [{"x": "a", "word": "a"}]):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


def test_reply_schema_describes_a_reply() -> None:
    """A reply as the server shapes it is valid."""
    schema = _schema(api_spec("p", SIGNATURE, "http://h", None), "responses", "200")
    row = {"time": 1, "in": {"x": [1.0, 2.0]}, "out": {"y": [1], "flag": True}, "anomaly": {"count": 0}, "metadata": {}}
    jsonschema.validate([row], schema)


def test_description_is_written(tmp_path: Path) -> None:
    """With a path, the file holds what is returned."""
    path = tmp_path / "api.yaml"
    spec = api_spec("p", SIGNATURE, "http://h", path)
    assert json.loads(path.read_text()) == spec
    assert spec["openapi"].startswith("3.1")
    assert spec["servers"] == [{"url": "http://h"}]
