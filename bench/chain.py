"""Run a cluster on this core that serves one model: `python -m bench.chain MODEL PORT FOLDER ROUTERS`.

Everything that a cluster needs is its descendant, etcd and the supervisor included, so that nothing is left out of what it costs.
"""

import http.client
import subprocess
import sys
import time
from pathlib import Path

import bettong
from bench.checking import HOST
from bench.contenders import bettong_program
from bench.workload import MODEL_NAME

_START_TIMEOUT_S = 60.0
_POLL_S = 0.05
_OK = 200


def main() -> int:
    """Serve until ended; return what the cluster returns."""
    model, port, folder, routers = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    shape = ["--gateways", "1", "--routers", routers, "--executors", "1"]
    command = [bettong_program(), "cluster", "up", *shape, "--port", str(port), "--data", str(folder / "cluster")]
    cluster = subprocess.Popen(command)
    try:
        _wait_until_ready(cluster, port)
        _deploy(model, port)
        return cluster.wait()
    finally:
        cluster.terminate()
        cluster.wait()


def _wait_until_ready(cluster: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and cluster.poll() is None:
        connection = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == _OK:
                return
        except OSError:
            # Not there yet; a process that starts gives no other signal.
            time.sleep(_POLL_S)
        finally:
            connection.close()
    sys.exit("bench: the cluster is not ready")


def _deploy(model: Path, port: int) -> None:
    with bettong.Client(f"http://{HOST}:{port}") as client:
        uploaded = client.upload_model(MODEL_NAME, model, framework=bettong.Framework.ONNX)
        client.build_pipeline(MODEL_NAME).add_model_step(uploaded).deploy()


if __name__ == "__main__":
    sys.exit(main())
