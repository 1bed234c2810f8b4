"""What a server process must not load: each of these costs more than the whole start may take."""

import json
import subprocess
import sys

HEAVY = ["numpy", "onnxruntime", "pandas", "polars", "pyarrow", "rich"]


def test_a_server_loads_no_heavy_library() -> None:
    """Neither our code nor what it imports pulls them in."""
    code = f"import json, sys, bettong_gateway.__main__; print(json.dumps(sorted(set(sys.modules) & set({HEAVY}))))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == []


def test_the_runtime_is_found_without_importing_it() -> None:
    """The library inside the wheel is all that the engine needs."""
    code = (
        "import sys; from bettong_serving.engine import onnxruntime_library; "
        "print(onnxruntime_library().is_file(), 'onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "False"]
