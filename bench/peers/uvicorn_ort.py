"""The Open Inference Protocol's JSON by uvicorn, orjson and ONNX Runtime on the event loop, with no framework between."""

# Run in an environment of its own, whose libraries are not typed.
# ruff: noqa: ANN001, ANN201, ANN202

import sys

import numpy as np
import onnxruntime
import orjson
import uvicorn

TYPES = {"BOOL": np.bool_, "FP32": np.float32, "FP64": np.float64, "INT32": np.int32, "INT64": np.int64}
NAMES = {np.dtype(dtype): name for name, dtype in TYPES.items()}


def make_app(model):
    """Return an ASGI application that runs *model*."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options)
    names = [spec.name for spec in session.get_outputs()]

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        tensor = orjson.loads(body)["inputs"][0]
        array = np.asarray(tensor["data"], dtype=TYPES[tensor["datatype"]]).reshape(tensor["shape"])
        outputs = [
            {"name": name, "datatype": NAMES[out.dtype], "shape": list(out.shape), "data": out.ravel().tolist()}
            for name, out in zip(names, session.run(None, {tensor["name"]: array}), strict=True)
        ]
        reply = orjson.dumps({"model_name": "bench", "outputs": outputs})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(reply)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return app


model, _input, port, _folder = sys.argv[1:5]
uvicorn.run(
    make_app(model),
    host="127.0.0.1",
    port=int(port),
    loop="uvloop",
    http="httptools",
    lifespan="off",
    log_level="warning",
)
