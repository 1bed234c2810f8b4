"""Set-up: what is redone and what is said."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Load the script for an empty checkout."""
    module = _script("set_up")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "STAMPS", tmp_path / ".venv/.stamps")
    (tmp_path / ".venv").mkdir()
    return module


def test_a_stage_runs_again_only_when_its_inputs_change(set_up: ModuleType, tmp_path: Path) -> None:
    """A stage that failed, or whose files changed, is stale; all others are skipped."""
    source, runs = tmp_path / "source", []
    source.write_text("1")

    def build() -> None:
        runs.append(source.read_text())
        if source.read_text() == "broken":
            raise set_up.SetUpError("broken")

    stage = set_up.Stage("s", "building", lambda: [source], build)
    set_up.run_stages([stage])
    set_up.run_stages([stage])
    source.write_text("broken")
    for _ in range(2):
        with pytest.raises(set_up.SetUpError):
            set_up.run_stages([stage])
    source.write_text("1")
    set_up.run_stages([stage])
    assert runs == ["1", "broken", "broken"]


def test_missing_tools_are_all_named_with_the_way_to_get_them(
    set_up: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message is enough to go and install everything."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(set_up.SetUpError) as caught:
        set_up.check_tools()
    for name in ("cc: a C compiler (Debian: apt-get install", "cargo: a Rust toolchain", "rustc:"):
        assert name in str(caught.value)


def test_the_lock_pins_the_installer_with_hashes(set_up: ModuleType) -> None:
    """What installs everything else is checked like everything else."""
    entry = set_up.uv_requirement((ROOT / "requirements.lock").read_text())
    assert entry.startswith("uv==")
    assert entry.count("--hash=sha256:") > 1
    assert entry.count("==") == 1


def test_lock_files_name_no_address() -> None:
    """A clone installs from wherever its user's tools are set up to."""
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text()
        assert "://" not in text
        assert "--index-url" not in text


def test_a_command_that_fails_is_named(set_up: ModuleType) -> None:
    """Its own output is above; the last line says which it was."""
    with pytest.raises(set_up.SetUpError, match=r"`false .*` failed with 1"):
        set_up.run(["false"])


def test_the_budgets_find_what_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long functions, many parameters, swallowed errors and silent tests are each named by place."""
    budgets = _script("check_budgets")
    monkeypatch.setattr(budgets, "ROOT", tmp_path)
    (tmp_path / "tests").mkdir()
    source, test = tmp_path / "a.py", tmp_path / "tests/test_a.py"
    body = "".join(f"    x = {number}\n" for number in range(51))
    source.write_text(
        f"def long():\n    '''Doc.'''\n{body}\n"
        "def wide(a, b, c, d, *, e, f, g):\n    try:\n        pass\n    except Exception:\n        pass\n"
    )
    test.write_text("def test_nothing():\n    assert True\n")
    findings = budgets.Findings()
    for path in (source, test):
        budgets.check_file(path, findings)
    assert findings.over == {
        "a.py::long": ["52 lines, limit 50"],
        "a.py::wide": [
            "7 parameters, limit 6",
            "catches everything without being a top loop (say so in its comment)",
        ],
        "tests/test_a.py::test_nothing": ["a test without a docstring that says its behaviour"],
    }
