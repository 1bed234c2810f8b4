"""open-inference-grpc, generated from the protocol as its owners publish it, as a witness."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Server

PROGRAM = Path(__file__).parents[2] / "witnesses" / "open_inference_client.py"
ONE_TO_FOUR = "0000803f000000400000404000008040"


@pytest.mark.slow
def test_the_published_protocol_is_spoken(server: Server) -> None:
    """All six calls, values typed and raw, and an unknown model."""
    command = [sys.executable, str(PROGRAM), server.data, "identity-fp32"]
    output = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    assert json.loads(output) == {
        "live": True,
        "ready": True,
        "model_ready": True,
        "server": "bettong",
        "inputs": [["x", "FP32", [-1, 4]]],
        "typed": ["o", "y", [ONE_TO_FOUR]],
        "raw": ["o", "y", [ONE_TO_FOUR]],
        "unknown": "NOT_FOUND",
    }
