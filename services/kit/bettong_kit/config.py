"""Reading settings: flags override the environment, which overrides a file, which overrides defaults.

A service's settings are one frozen dataclass. A field `data_port: int = 8080` is set by the flag `data_port=…`, the
variable `BETTONG_DATA_PORT`, or the line `data_port = …` of the settings file. Nothing is read at import time.
"""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args, get_type_hints

from bettong_kit.errors import ConfigError

SettingsT = TypeVar("SettingsT")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


def load_settings(
    kind: type[SettingsT],
    *,
    prefix: str,
    flags: Mapping[str, object],
    environment: Mapping[str, str],
    file: Path | None = None,
    beside: tuple[type[object], ...] = (),
) -> SettingsT:
    """Build a settings object; flags that are None count as not given, and so do those of other names.

    Args:
        kind: A dataclass, every field of which has a default.
        prefix: What the variables begin with.
        flags: Values by name.
        environment: Variables.
        file: Settings file.
        beside: Other settings that are read from the same file; their names may stand in it, too.

    Raises:
        ConfigError: The file cannot be read or has a name that is no setting, or a value has the wrong type. The message
            names the setting and where its value came from.
    """
    hints = get_type_hints(kind)
    known = hints.keys() | {name for other in beside for name in get_type_hints(other)}
    values: dict[str, object] = {}
    for name, value in _read_file(file).items():
        if name not in known:
            raise ConfigError(f"{file}: '{name}' is not a setting; known: {', '.join(sorted(known))}")
        if name not in hints:
            continue
        values[name] = _convert(value, hints[name], f"'{name}' in {file}")
    for name, kind_of in hints.items():
        variable = prefix + name.upper()
        if variable in environment:
            values[name] = _convert(environment[variable], kind_of, variable)
        if flags.get(name) is not None:
            values[name] = _convert(flags[name], kind_of, f"--{name.replace('_', '-')}")
    return kind(**values)


def describe_settings(kind: type[object], prefix: str) -> list[tuple[str, str, str]]:
    """Return (variable, type, default) of each setting, for documentation."""
    hints = get_type_hints(kind)
    return [
        (prefix + field.name.upper(), _without_none(hints[field.name]).__name__, str(field.default))
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
    ]


def _read_file(file: Path | None) -> dict[str, object]:
    if file is None:
        return {}
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"settings file {file}: {error}") from error


def _without_none(kind: Any) -> type[object]:  # noqa: ANN401 - a type, or a type or None
    """Return the type of a setting that may be absent."""
    found: type[object] = next((each for each in get_args(kind) if each is not NoneType), kind)
    return found


def _convert(value: object, kind: type[object], origin: str) -> object:
    kind = _without_none(kind)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    converters: dict[type[object], Callable[[str], object]] = {
        bool: _to_bool,
        int: int,
        float: float,
        str: str,
        Path: Path,
    }
    try:
        return converters[kind](str(value))
    except ValueError as error:
        raise ConfigError(f"{origin}: expected {kind.__name__}, got {value!r}") from error


def _to_bool(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(text)
