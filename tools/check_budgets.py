"""Check the size limits that keep the code readable; exceptions and their reasons are in budgets.toml beside this file.

Complexity is ruff's (C901), the length of Rust functions clippy's. What is counted here: lines of functions, classes and files,
parameters, public methods, unguarded `except Exception`, and that each test says what behaviour it checks.
"""

import ast
import statistics
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXCEPTIONS = Path(__file__).with_name("budgets.toml")
FOLDERS = ("sdk", "services", "tools", "tests", "examples", "bench", "engine")
GENERATED = ("_pb2.py", "_pb2_grpc.py")

MAX_FUNCTION_LINES = 50
MAX_CLASS_LINES = 300
MAX_PUBLIC_METHODS = 10
MAX_PARAMETERS = 6
MAX_POSITIONAL = 4
"""The house rule is keyword-only after two; two more are allowed where a reader cannot mix them up (checked by review)."""
MAX_FILE_LINES = 500

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Findings:
    """What was counted and what is over a limit."""

    over: dict[str, list[str]] = field(default_factory=dict)
    function_lines: list[int] = field(default_factory=list)
    file_lines: list[int] = field(default_factory=list)

    def check(self, place: str, what: str, value: int, limit: int) -> None:
        """Note a value that is over its limit."""
        if value > limit:
            self.add(place, f"{value} {what}, limit {limit}")

    def add(self, place: str, problem: str) -> None:
        """Note a problem."""
        self.over.setdefault(place, []).append(problem)


def main() -> int:
    """Check everything and print what is over."""
    findings = Findings()
    for path in sources():
        check_file(path, findings)
    exceptions = set(tomllib.loads(EXCEPTIONS.read_text())["exceptions"])
    problems = [
        f"{place}: {problem}"
        for place, found in sorted(findings.over.items())
        if place not in exceptions
        for problem in found
    ]
    problems += [f"{place}: needs no exception any more" for place in sorted(exceptions - findings.over.keys())]
    print("\n".join([*problems, summary(findings)]))
    return 1 if problems else 0


def sources() -> Iterator[Path]:
    """Yield the hand-written source files."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".py", ".rs"} and not path.name.endswith(GENERATED) and "target" not in path.parts:
                yield path


def check_file(path: Path, findings: Findings) -> None:
    """Check a file and, if it is Python, what is in it."""
    text = path.read_text()
    place = str(path.relative_to(ROOT))
    lines = text.count("\n")
    findings.file_lines.append(lines)
    findings.check(place, "lines", lines, MAX_FILE_LINES)
    if path.suffix == ".py":
        visit(ast.parse(text), place, text.splitlines(), findings)


def visit(tree: ast.AST, place: str, lines: list[str], findings: Findings) -> None:
    """Check the functions and classes below a node, outer ones first."""
    for node in ast.iter_child_nodes(tree):
        inner = place
        if isinstance(node, Function):
            inner = f"{place}::{node.name}"
            check_function(node, inner, findings)
        elif isinstance(node, ast.ClassDef):
            inner = f"{place}::{node.name}"
            check_class(node, inner, findings)
        elif isinstance(node, ast.ExceptHandler):
            check_handler(node, inner, lines, findings)
        visit(node, inner, lines, findings)


def check_function(node: Function, place: str, findings: Findings) -> None:
    """Check length and parameters; a test needs its behaviour instead of few parameters."""
    length = code_lines(node)
    findings.function_lines.append(length)
    findings.check(place, "lines", length, MAX_FUNCTION_LINES)
    if place.startswith("tests/"):
        if node.name.startswith("test_") and ast.get_docstring(node) is None:
            findings.add(place, "a test without a docstring that says its behaviour")
        return
    arguments = node.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    own = [name for name in positional if name not in {"self", "cls"}]
    findings.check(place, "parameters", len(own) + len(arguments.kwonlyargs), MAX_PARAMETERS)
    findings.check(place, "positional parameters", len(own), MAX_POSITIONAL)


def check_class(node: ast.ClassDef, place: str, findings: Findings) -> None:
    """Check length and public methods."""
    findings.check(place, "lines", code_lines(node), MAX_CLASS_LINES)
    methods = [child for child in node.body if isinstance(child, Function) and not child.name.startswith("_")]
    if not place.startswith("tests/"):
        findings.check(place, "public methods", len(methods), MAX_PUBLIC_METHODS)


def check_handler(node: ast.ExceptHandler, place: str, lines: list[str], findings: Findings) -> None:
    """Allow catching everything only in a top loop that says so, or to raise it again."""
    names = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else {"Exception"}
    raises = any(isinstance(child, ast.Raise) for child in ast.walk(node))
    if names & {"Exception", "BaseException"} and not raises and "top" not in lines[node.lineno - 1]:
        findings.add(place, "catches everything without being a top loop (say so in its comment)")


def code_lines(node: Function | ast.ClassDef) -> int:
    """Count the lines of a definition without its docstring."""
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    return length


def summary(findings: Findings) -> str:
    """Return the medians, which have targets and no limits."""
    functions = sorted(findings.function_lines)
    ninetieth = functions[len(functions) * 9 // 10]
    return (
        f"budgets: {len(findings.file_lines)} files, median {statistics.median(findings.file_lines):.0f} lines; "
        f"{len(functions)} functions, median {statistics.median(functions):.0f}, 90th percentile {ninetieth} lines"
    )


if __name__ == "__main__":
    sys.exit(main())
