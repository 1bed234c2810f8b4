"""What users import."""

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

import bettong

_HEAVY = ("google.protobuf", "grpc", "httpx", "numpy", "pandas", "polars", "pyarrow", "rich")


def test_all_is_sorted_and_complete() -> None:
    """`__all__` is sorted, each of its names can be had, and nothing else is listed."""
    assert sorted(bettong.__all__) == bettong.__all__
    assert dir(bettong) == bettong.__all__
    for name in bettong.__all__:
        assert getattr(bettong, name) is not None


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there fails as on any module."""
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bettong.nothing


def test_modules_besides_the_package_are_private() -> None:
    """Users have one place to import from; only generated code lies beside it."""
    public = {module.name for module in pkgutil.iter_modules(bettong.__path__) if not module.name.startswith("_")}
    assert public == {"internal", "v1"}


def test_bare_import_is_quick_and_loads_no_library() -> None:
    """`import bettong` takes less than 20 ms and loads no library that is not needed yet."""
    code = (
        "import sys, time; started = time.perf_counter(); import bettong; "
        "print(time.perf_counter() - started, *sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
        for _ in range(3)
    ]
    assert not [name for name in _HEAVY if name in runs[0]]
    assert min(float(run[0]) for run in runs) < 0.020


def test_client_loads_no_data_frame_library() -> None:
    """A program that uses one kind of frame does not wait for the libraries of the others."""
    code = "import sys, bettong; bettong.Client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in ("httpx", "numpy", "pandas", "polars", "pyarrow", "rich") if name in loaded]


def _public_members() -> Iterator[tuple[str, object]]:
    for name in bettong.__all__:
        item = getattr(bettong, name)
        yield name, item
        if inspect.isclass(item):
            for member, value in inspect.getmembers(item):
                is_ours = str(getattr(inspect.unwrap(value), "__module__", "")).startswith("bettong")
                if not member.startswith("_") and callable(value) and is_ours:
                    yield f"{name}.{member}", value


@pytest.mark.parametrize(
    ("name", "item"), list(_public_members()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_everything_public_is_documented(name: str, item: object) -> None:
    """Each public class, function and method says in a sentence what it does."""
    text = inspect.getdoc(item)
    assert text, f"{name} has no docstring"
    assert text.splitlines()[0].rstrip().endswith((".", "?"))


def test_error_tree_is_drawn_as_it_is() -> None:
    """The docstring that draws the tree of errors names each of them, with its built-in base."""
    errors = importlib.import_module("bettong._errors")
    drawn = {line.split("──")[1].split()[0]: line for line in str(errors.__doc__).splitlines() if "──" in line}
    classes = {cls.__name__: cls for cls in errors.BettongError.__subclasses__()}
    assert drawn.keys() == classes.keys()
    for name, cls in classes.items():
        builtin = [base.__name__ for base in cls.__bases__ if base is not errors.BettongError]
        assert all(f"({base})" in drawn[name] for base in builtin)
