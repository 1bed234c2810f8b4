"""`python -m bench.gate`: count, compare with the budgets, print the table."""

import argparse
import sys
import tempfile
from pathlib import Path

from bench.card_model import write_model
from bench.gate import budgets
from bench.gate.budgets import Budgets, Verdict
from bench.gate.build import build, onnxruntime_library, require_valgrind, versions
from bench.gate.callgrind import Cost, GateError, Program, count

_ROWS = 1_000
"""Rows of each case that are counted; the figures are the same with more."""


def main() -> int:
    """Return 0 when every case is within its budget."""
    arguments = _arguments()
    try:
        return _run(update=arguments.update, runs=arguments.runs)
    except GateError as error:
        print(f"bench-gate: {error}", file=sys.stderr)
        return 2


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gate", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write what is counted as the new budgets")
    parser.add_argument("--runs", type=int, default=1, help="count so often and show how far the counts are apart")
    return parser.parse_args()


def _run(*, update: bool, runs: int) -> int:
    require_valgrind()
    binary = build()
    counted = [_count(binary) for _ in range(runs)]
    costs = counted[0]
    if runs > 1:
        _print_spread(counted)
    if update:
        budgets.write(costs, versions())
        print(f"bench-gate: wrote {len(costs)} budgets to {budgets.PATH.name}")
        return 0
    known = budgets.read()
    if known.counted_with["architecture"] != versions()["architecture"]:
        _print_costs(costs)
        print(f"bench-gate: the budgets are for {known.counted_with['architecture']}; nothing was compared")
        return 0
    return _judge(costs, known)


def _count(binary: Path) -> dict[str, Cost]:
    with tempfile.TemporaryDirectory(prefix="bench-gate-") as name:
        folder = Path(name)
        model = write_model(folder / "card.onnx")
        program = Program(binary=binary, onnxruntime_library=onnxruntime_library(), model=model, rows=_ROWS)
        return count(program, folder)


def _judge(costs: dict[str, Cost], known: Budgets) -> int:
    verdicts = budgets.compare(costs, known)
    print(f"{'case':<24}{'instructions':>14}{'budget':>12}{'':>9}{'allocations':>13}{'budget':>9}")
    for verdict in verdicts:
        print(_line(verdict))
    wrong = [verdict for verdict in verdicts if verdict.problem]
    if not wrong:
        print(f"bench-gate: {len(verdicts)} cases are within {known.tolerance_percent:g} % of their budgets")
        return 0
    print(f"bench-gate: {len(wrong)} of {len(verdicts)} cases are off by more than {known.tolerance_percent:g} %")
    for key, value in versions().items():
        if known.counted_with.get(key) != value:
            print(f"bench-gate: the budgets were counted with {key} {known.counted_with.get(key)}, here it is {value}")
    print(
        "bench-gate: if that is meant, `make bench-gate ARGS=--update` writes the budgets anew; commit them with the cause"
    )
    return 1


def _line(verdict: Verdict) -> str:
    cost, budget = verdict.cost, verdict.budget
    if cost is None or budget is None:
        return f"{verdict.case:<24} {verdict.problem}"
    change = budgets.change_percent(cost.instructions, budget.instructions)
    figures = f"{cost.instructions:>14,.0f}{budget.instructions:>12,.0f}{change:>+7.1f} %"
    allocations = f"{cost.allocations:>13.2f}{budget.allocations:>9.2f}"
    return f"{verdict.case:<24}{figures}{allocations}{'   OFF: ' + verdict.problem if verdict.problem else ''}"


def _print_costs(costs: dict[str, Cost]) -> None:
    for name, cost in costs.items():
        print(f"{name:<24}{cost.instructions:>14,.0f} instructions{cost.allocations:>9.2f} allocations")


def _print_spread(counted: list[dict[str, Cost]]) -> None:
    print(f"{'case':<24}{'least':>14}{'most':>14}{'apart':>10}   instructions, {len(counted)} runs")
    for name in counted[0]:
        figures = [costs[name].instructions for costs in counted]
        apart = budgets.change_percent(max(figures), min(figures))
        print(f"{name:<24}{min(figures):>14,.1f}{max(figures):>14,.1f}{apart:>8.3f} %")


if __name__ == "__main__":
    sys.exit(main())
