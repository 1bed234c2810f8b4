"""Measure Bettong beside raw ONNX Runtime and other servers: `python -m bench`, `python -m bench.gate`."""
