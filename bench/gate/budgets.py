"""Budgets: what a request may cost, and what the figures were counted with."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from bench.gate.callgrind import Cost, GateError

PATH = Path(__file__).resolve().parent.parent / "budgets.toml"

DEFAULT_TOLERANCE_PERCENT = 3.0

ALLOCATIONS_SLACK = 0.1
"""Buffers that grow once in a while make the number of allocations a fraction."""

_HEADER = """\
# What one request costs the engine: instructions in user space, and allocations. `make bench-gate` counts them anew and
# fails when one is off by more than the tolerance, in either direction; `make bench-gate ARGS=--update` writes this file.
# A change of figures belongs into the same commit as the code that caused it.
"""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one request of a case may cost."""

    instructions: float
    allocations: float


@dataclass(frozen=True, slots=True)
class Budgets:
    """The budget file."""

    tolerance_percent: float
    counted_with: dict[str, str]
    cases: dict[str, Budget]


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a case compares with its budget."""

    case: str
    cost: Cost | None
    budget: Budget | None
    problem: str
    """Empty when the case is within its budget."""


def read(path: Path = PATH) -> Budgets:
    """Read the budget file.

    Raises:
        GateError: There is none.
    """
    if not path.exists():
        raise GateError(f"{path.name} is missing; `make bench-gate ARGS=--update` writes it")
    document = tomllib.loads(path.read_text())
    return Budgets(
        tolerance_percent=float(document["tolerance_percent"]),
        counted_with={str(key): str(value) for key, value in document["counted_with"].items()},
        cases={str(name): Budget(**values) for name, values in document["cases"].items()},
    )


def write(costs: dict[str, Cost], counted_with: dict[str, str], path: Path = PATH) -> None:
    """Write *costs* as the new budgets."""
    lines = [_HEADER, f"tolerance_percent = {DEFAULT_TOLERANCE_PERCENT}", "", "[counted_with]"]
    lines += [f'{key} = "{value}"' for key, value in sorted(counted_with.items())]
    for name, cost in costs.items():
        lines += ["", f"[cases.{name}]"]
        lines += [f"instructions = {cost.instructions:.0f}", f"allocations = {cost.allocations:.2f}"]
    path.write_text("\n".join(lines) + "\n")


def compare(costs: dict[str, Cost], budgets: Budgets) -> list[Verdict]:
    """Compare each case that was counted or that has a budget."""
    names = [*costs, *(name for name in budgets.cases if name not in costs)]
    return [_verdict(name, costs.get(name), budgets) for name in names]


def _verdict(name: str, cost: Cost | None, budgets: Budgets) -> Verdict:
    budget = budgets.cases.get(name)
    problem = ""
    if cost is None:
        problem = "was not counted"
    elif budget is None:
        problem = "has no budget"
    else:
        allowed = budgets.tolerance_percent / 100
        problems = []
        if abs(cost.instructions - budget.instructions) > allowed * budget.instructions:
            problems.append(f"instructions {change_percent(cost.instructions, budget.instructions):+.1f} %")
        if abs(cost.allocations - budget.allocations) > max(allowed * budget.allocations, ALLOCATIONS_SLACK):
            problems.append(f"allocations {cost.allocations - budget.allocations:+.2f}")
        problem = ", ".join(problems)
    return Verdict(case=name, cost=cost, budget=budget, problem=problem)


def change_percent(now: float, before: float) -> float:
    """Return how much *now* is above *before*, in percent."""
    return (now / before - 1) * 100 if before else 0.0
