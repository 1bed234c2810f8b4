"""`python -m bench`: measure Bettong beside raw ONNX Runtime and other servers, and print the table."""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench import figures, grown, serving, table
from bench.contenders import Contender, all_contenders
from bench.processes import Cores
from bench.results import Results
from bench.serving import Settings
from bench.workload import Workload, WorkloadError, card_workload, file_workload

_PARTS = {"sdk": figures.sdk, "start": figures.start, "pipelines": figures.pipelines, "grown": grown.grown}
_CORES_NEEDED = 2


def main() -> int:
    """Return 0 when everything that could be measured gave right answers."""
    arguments = _parser().parse_args()
    missing = _missing()
    if missing:
        print(f"bench: nothing is measured: {missing}", file=sys.stderr)
        return 2
    contenders = all_contenders(with_peers=arguments.peers)
    names = ["raw", *(contender.name for contender in contenders), *_PARTS]
    wanted = arguments.only.split(",") if arguments.only else names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        print(f"bench: {', '.join(unknown)} is none of {', '.join(names)}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        try:
            workload = _workload(arguments, Path(name))
        except WorkloadError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 2
        results = _run(arguments, workload, wanted, contenders)
    print("\n".join(table.lines(results)))
    if arguments.json:
        arguments.json.write_text(json.dumps(dataclasses.asdict(results), indent=2) + "\n")
    return 1 if results.skipped.keys() & {"bettong", "bettong-spin", *_PARTS} else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", metavar="NAMES", help="measure these alone, separated by commas: raw, bettong, sdk, uvicorn, ..."
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="load at each point; 3 if it is not given")
    parser.add_argument(
        "--rounds", type=int, default=1, help="go round all servers so often and keep the least CPU; noise only adds"
    )
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other people's servers")
    parser.add_argument("--model", type=Path, help="another ONNX file with one input")
    parser.add_argument("--input", help="name of that input")
    parser.add_argument("--rows", type=Path, help="its rows: JSON records, or an array in a .npy file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    return parser


def _missing() -> str:
    """Say what prevents measuring; empty if nothing does."""
    if shutil.which("h2load") is None:
        return "h2load is missing (Debian: apt-get install nghttp2-client)"
    if len(os.sched_getaffinity(0)) < _CORES_NEEDED:
        return "servers and load need a core each"
    return ""


def _workload(arguments: argparse.Namespace, folder: Path) -> Workload:
    if arguments.model is None:
        return card_workload(folder)
    if arguments.input is None or arguments.rows is None:
        raise WorkloadError("--model needs --input and --rows")
    return file_workload(arguments.model.resolve(), input_name=arguments.input, rows=arguments.rows)


def _run(arguments: argparse.Namespace, workload: Workload, wanted: list[str], contenders: list[Contender]) -> Results:
    settings = Settings(cores=Cores.choose(), seconds=arguments.seconds)
    results = Results()
    chosen = [contender for contender in contenders if contender.name in wanted]
    for _ in range(arguments.rounds):
        if "raw" in wanted:
            serving.measure_raw(workload, settings, results)
        serving.measure_all(chosen, workload, settings, results)
    for name, measure in _PARTS.items():
        if name in wanted:
            print(f"bench: {name}", file=sys.stderr, flush=True)
            measure(workload, settings, results)
    return results


if __name__ == "__main__":
    sys.exit(main())
