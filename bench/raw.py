"""Raw ONNX Runtime in a Python process of its own, on the servers' core: the limit of what a server can do.

`python -m bench.raw MODEL INPUT ROWS.npy SECONDS` prints one line of JSON for each size of batch.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from bench.workload import open_session

SIZES = (1, 128, 1_024)
_WARM_UP_RUNS = 20


def main() -> None:
    """Run each size for the given time."""
    model, name, rows, seconds = sys.argv[1:]
    session, array = open_session(Path(model)), np.load(rows)
    for size in SIZES:
        given = {name: np.resize(array, (size, *array.shape[1:]))}
        for _ in range(_WARM_UP_RUNS):
            session.run(None, given)
        runs, cpu, end = 0, time.process_time(), time.monotonic() + float(seconds)
        start = time.monotonic()
        while time.monotonic() < end:
            session.run(None, given)
            runs += 1
        cpu_s, took_s = time.process_time() - cpu, time.monotonic() - start
        print(json.dumps({"rows": size, "cpu_us": cpu_s / runs * 1e6, "runs_per_s": runs / took_s}), flush=True)


if __name__ == "__main__":
    main()
