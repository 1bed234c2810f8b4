"""Settings: where they come from and what is refused."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from bettong_kit.config import describe_settings, load_settings
from bettong_kit.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """One field of each kind."""

    port: int = 8080
    ratio: float = 0.5
    name: str = "x"
    data: Path = Path(".bettong")
    fast: bool = False


def _load(
    flags: dict[str, object] | None = None, environment: dict[str, str] | None = None, file: Path | None = None
) -> Settings:
    return load_settings(Settings, prefix="T_", flags=flags or {}, environment=environment or {}, file=file)


def test_defaults_hold_when_nothing_is_given() -> None:
    """Nothing has to be set."""
    assert _load({"port": None}) == Settings()


def test_flags_override_environment_overrides_file(tmp_path: Path) -> None:
    """The nearer a source is to the person who starts the server, the more it counts."""
    file = tmp_path / "settings.toml"
    file.write_text('port = 1\nname = "file"\nratio = 0.25')
    found = _load({"port": 3}, {"T_PORT": "2", "T_NAME": "environment"}, file)
    assert found == Settings(port=3, name="environment", ratio=0.25)


def test_text_is_converted_to_the_type_of_the_field() -> None:
    """The environment only has text."""
    environment = {"T_PORT": "7", "T_RATIO": "2", "T_DATA": "/d", "T_FAST": "Yes"}
    assert _load(environment=environment) == Settings(port=7, ratio=2.0, data=Path("/d"), fast=True)


def test_false_is_not_true() -> None:
    """The text "off" switches off."""
    assert _load(environment={"T_FAST": "off"}) == Settings(fast=False)


@pytest.mark.parametrize(
    ("flags", "environment", "origin"),
    [({"port": "a"}, {}, "--port"), ({}, {"T_RATIO": "much"}, "T_RATIO"), ({}, {"T_FAST": "maybe"}, "T_FAST")],
)
def test_a_wrong_value_is_refused_by_its_origin(
    flags: dict[str, object], environment: dict[str, str], origin: str
) -> None:
    """The message tells where to look."""
    with pytest.raises(ConfigError, match=rf"^{origin}: expected (int|float|bool), got"):
        _load(flags, environment)


def test_a_flag_that_is_a_truth_is_no_number() -> None:
    """`--port` without a value must not listen on port 1."""
    with pytest.raises(ConfigError, match="--port"):
        _load({"port": True})


@pytest.mark.parametrize(
    ("text", "reason"), [("port = ", "settings.toml"), ("color = 1", "'color' is not a setting; known: data, fast")]
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """A typo in the file is named instead of ignored."""
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        _load(file=file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match=r"settings file .*none\.toml"):
        _load(file=tmp_path / "none.toml")


def test_settings_describe_themselves() -> None:
    """Documentation is made from the same fields."""
    assert describe_settings(Settings, "T_")[0] == ("T_PORT", "int", "8080")
