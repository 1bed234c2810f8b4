"""What a server says when it is ready: where it listens, and two ways to try it."""

import json
from typing import Any

from bettong._errors import BettongError
from bettong._http import HttpPool, parse_endpoint

_TIMEOUT_S = 2.0
_MOST_VALUES = 64
"""A row with more values would not be a line that anybody pastes."""


def welcome(data: str, control: str, metrics: str, name: str | None) -> str:
    """Return the text; *name* is the pipeline to show, if one serves for sure."""
    inputs = _inputs(data, name) if name else []
    url = f"http://{data}"
    lines = [
        f"Bettong is ready: {url}  (control {control}, metrics http://{metrics}/metrics)",
        "",
        _curl(url, name, inputs),
        "",
        *_snippet(url, name, inputs),
        "",
        "Ctrl-C drains and stops.",
    ]
    return "\n".join(lines)


def _inputs(data: str, name: str) -> list[dict[str, Any]]:
    """Ask the data port what a pipeline takes. The engine answers by itself, so that the event loop may wait for it."""
    pool = HttpPool(parse_endpoint(data))
    try:
        inputs = json.loads(pool.get(f"/v2/models/{name}", timeout_s=_TIMEOUT_S).body)["inputs"]
    except (BettongError, ValueError, LookupError, TypeError):
        # A greeting must not end a server that serves.
        return []
    finally:
        pool.close()
    return list(inputs)


def _curl(url: str, name: str | None, inputs: list[dict[str, Any]]) -> str:
    values = sum(_count(spec) for spec in inputs)
    if name is None or not 0 < values <= _MOST_VALUES:
        return f"curl -s {url}/v2/models/{name}" if name else f"curl -s {url}/v1/server"
    row = {spec["name"]: _zeros(spec) for spec in inputs}
    return f"curl -s {url}/v1/pipelines/{name}/infer -H 'content-type: application/json' -d '{json.dumps([row])}'"


def _snippet(url: str, name: str | None, inputs: list[dict[str, Any]]) -> list[str]:
    if name is None or not inputs:
        return [
            "import bettong",
            f'client = bettong.Client("{url}")',
            'model = client.upload_model("my-model", "model.onnx")',
            'pipeline = client.build_pipeline("my-pipeline").add_model_step(model).deploy()',
            "print(pipeline.url(), model.inputs)",
        ]
    columns = ", ".join(f"{json.dumps(spec['name'])}: {_zeros_code(spec)}" for spec in inputs)
    return [
        "import bettong",
        f'client = bettong.Client("{url}")',
        f'pipeline = client.get_pipeline("{name}")',
        f"reply = pipeline.infer([{{{columns}}}])",
        "print(reply)",
    ]


def _sizes(spec: dict[str, Any]) -> list[int]:
    """Return the sizes of one row; a free one is shown as 1."""
    return [max(1, size) for size in spec["shape"][1:]]


def _count(spec: dict[str, Any]) -> int:
    count = 1
    for size in _sizes(spec):
        count *= size
    return count


def _zero(spec: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    datatype = str(spec["datatype"])
    if datatype == "BYTES":
        return "text"
    if datatype == "BOOL":
        return False
    return 0 if "INT" in datatype else 0.0


def _zeros(spec: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
    value = _zero(spec)
    for size in reversed(_sizes(spec)):
        value = [value] * size
    return value


def _zeros_code(spec: dict[str, Any]) -> str:
    code = repr(_zero(spec))
    for size in reversed(_sizes(spec)):
        code = f"[{code}] * {size}"
    return code
