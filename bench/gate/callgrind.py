"""Run the counting program under callgrind and read what it wrote."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PART = re.compile(r"^callgrind\.out\.(?P<part>\d+)-\d+$")
_AT_END_OF_CASE = "--dump-before=gate_end"


class GateError(Exception):
    """The count can't be taken; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one request of a case costs the engine."""

    instructions: float
    allocations: float
    allocated_bytes: float


@dataclass(frozen=True, slots=True)
class Program:
    """The counting program and what it runs with."""

    binary: Path
    onnxruntime_library: Path
    model: Path
    rows: int


def count(program: Program, folder: Path) -> dict[str, Cost]:
    """Run *program* once, with its files in *folder*, and return the cost of each case.

    Raises:
        GateError: The program failed, or what was written does not fit what was run.
    """
    lines = _run(program, folder)
    totals = _instructions_by_part(folder)
    if len(totals) != len(lines):
        raise GateError(f"callgrind wrote {len(totals)} parts for {len(lines)} cases")
    counted = zip(lines, totals, strict=True)
    costs = {str(line["case"]): _cost(line, total) for line, total in counted if not line["disturbed"]}
    missing = {str(line["case"]) for line in lines} - costs.keys()
    if missing:
        raise GateError(f"the machine is too busy to count {', '.join(sorted(missing))}; try again")
    return costs


def _run(program: Program, folder: Path) -> list[dict[str, float | str]]:
    command = [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        "--separate-threads=yes",
        "--zero-before=gate_begin",
        _AT_END_OF_CASE,
        f"--callgrind-out-file={folder / 'callgrind.out'}",
        str(program.binary),
        str(program.onnxruntime_library),
        str(program.model),
        str(program.rows),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise GateError(f"the counting program failed:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _cost(line: dict[str, float | str], instructions: int) -> Cost:
    requests = float(line["requests"])
    return Cost(
        instructions=instructions / requests,
        allocations=float(line["allocations"]) / requests,
        allocated_bytes=float(line["allocated_bytes"]) / requests,
    )


def _instructions_by_part(folder: Path) -> list[int]:
    """Return the lane's instructions of each case, in order; what is written when the program ends is left out."""
    totals: dict[int, int] = {}
    for path in folder.iterdir():
        found = _PART.match(path.name)
        if found is not None:
            lines = path.read_text().splitlines()
            if any(line.startswith("desc: Trigger:") and _AT_END_OF_CASE in line for line in lines):
                totals[int(found["part"])] = sum(int(line.split()[1]) for line in lines if line.startswith("totals:"))
    return [totals[part] for part in sorted(totals)]
