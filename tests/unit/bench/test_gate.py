"""The instruction gate: reading counts, comparing them, saying what is off."""

import json
import stat
from pathlib import Path

import pytest

from bench.gate import budgets, callgrind
from bench.gate.budgets import Budget, Budgets
from bench.gate.callgrind import Cost, GateError, Program

COUNTED_WITH = {"architecture": "x86_64", "rustc": "1.88.0"}


def _budgets(**cases: Budget) -> Budgets:
    return Budgets(tolerance_percent=3.0, counted_with=COUNTED_WITH, cases=cases)


def _cost(instructions: float, allocations: float = 10.0) -> Cost:
    return Cost(instructions=instructions, allocations=allocations, allocated_bytes=0.0)


@pytest.mark.parametrize(
    ("instructions", "allocations", "problem"),
    [
        (1_029, 10.0, ""),
        (971, 10.0, ""),
        (1_031, 10.0, "instructions +3.1 %"),
        (960, 10.0, "instructions -4.0 %"),
        (1_000, 10.2, ""),
        (1_000, 11.0, "allocations +1.00"),
        (1_100, 9.0, "instructions +10.0 %, allocations -1.00"),
    ],
)
def test_a_case_is_off_when_it_leaves_its_tolerance_in_either_direction(
    instructions: float, allocations: float, problem: str
) -> None:
    """Three percent up or down pass, more is named with its size; so are allocations."""
    known = _budgets(case=Budget(instructions=1_000, allocations=10.0))
    (verdict,) = budgets.compare({"case": _cost(instructions, allocations)}, known)
    assert verdict.problem == problem


def test_a_small_number_of_allocations_may_move_by_a_fraction() -> None:
    """A buffer that grows once in many requests does not fail the gate, one more allocation each does."""
    known = _budgets(case=Budget(instructions=1_000, allocations=1.0))
    problems = [budgets.compare({"case": _cost(1_000, count)}, known)[0].problem for count in (1.08, 2.0)]
    assert problems == ["", "allocations +1.00"]


def test_cases_without_budget_and_budgets_without_case_are_off() -> None:
    """Neither a new case nor a lost one passes unseen."""
    known = _budgets(lost=Budget(instructions=1, allocations=1))
    found = {verdict.case: verdict.problem for verdict in budgets.compare({"new": _cost(5)}, known)}
    assert found == {"new": "has no budget", "lost": "was not counted"}


def test_written_budgets_read_back_and_pass(tmp_path: Path) -> None:
    """What --update writes is what the next run compares with."""
    path = tmp_path / "budgets.toml"
    costs = {"noop-grpc-unary-1": _cost(38_154.7), "fraud-rest-json-1": _cost(61_779.2, 7.12)}
    budgets.write(costs, COUNTED_WITH, path)
    known = budgets.read(path)
    assert known.counted_with == COUNTED_WITH
    assert [verdict.problem for verdict in budgets.compare(costs, known)] == ["", ""]


def test_a_missing_budget_file_is_named(tmp_path: Path) -> None:
    """The error says how the file is made."""
    with pytest.raises(GateError, match=r"budgets\.toml is missing; `make bench-gate ARGS=--update`"):
        budgets.read(tmp_path / "budgets.toml")


def _valgrind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, object]], totals: list[int]
) -> Program:
    """Put a program called valgrind first in PATH that writes what callgrind would."""
    parts = "\n".join(
        f"printf 'desc: Trigger: --dump-before=gate_end\\ntotals: {total}\\n' > $out.{number}-03"
        for number, total in enumerate(totals, 1)
    )
    printed = "\n".join(f"echo '{json.dumps(line)}'" for line in lines)
    script = f"""#!/bin/sh
for word in "$@"; do case $word in --callgrind-out-file=*) out=${{word#*=}};; esac; done
{parts}
printf 'desc: Trigger: Program termination\\ntotals: 999\\n' > $out-01
{printed}
"""
    program = folder / "bin" / "valgrind"
    program.parent.mkdir()
    program.write_text(script)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return Program(binary=folder / "b", onnxruntime_library=folder / "o", model=folder / "m", rows=10)


def _line(case: str, *, disturbed: bool = False) -> dict[str, object]:
    return {"case": case, "requests": 10, "allocations": 25, "allocated_bytes": 1_000, "disturbed": disturbed}


def test_counts_are_shared_out_over_the_requests_of_their_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case gets its own part, divided by its requests; what follows the last case counts nowhere."""
    (tmp_path / "out").mkdir()
    program = _valgrind(tmp_path, monkeypatch, [_line("a"), _line("b")], [40_000, 70_000])
    costs = callgrind.count(program, tmp_path / "out")
    assert costs == {"a": Cost(4_000, 2.5, 100), "b": Cost(7_000, 2.5, 100)}


def test_a_disturbed_count_is_replaced_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that the machine disturbed is thrown away when the case was counted again."""
    (tmp_path / "out").mkdir()
    program = _valgrind(tmp_path, monkeypatch, [_line("a", disturbed=True), _line("a")], [99_000, 40_000])
    assert callgrind.count(program, tmp_path / "out")["a"].instructions == 4_000


def test_a_case_that_was_only_disturbed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is made up; the case is named."""
    (tmp_path / "out").mkdir()
    program = _valgrind(tmp_path, monkeypatch, [_line("a", disturbed=True)], [99_000])
    with pytest.raises(GateError, match="too busy to count a"):
        callgrind.count(program, tmp_path / "out")


def test_parts_that_do_not_fit_the_cases_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are never given to the wrong case."""
    (tmp_path / "out").mkdir()
    program = _valgrind(tmp_path, monkeypatch, [_line("a"), _line("b")], [40_000])
    with pytest.raises(GateError, match="1 parts for 2 cases"):
        callgrind.count(program, tmp_path / "out")
