"""The executor's settings."""

from pathlib import Path

import pytest

from bettong_executor.config import ExecutorConfig
from bettong_executor.memory import memory_bytes
from bettong_kit.config import load_settings
from bettong_kit.errors import ConfigError


def test_the_metrics_port_follows_the_data_port() -> None:
    """There is no control port between them."""
    assert ExecutorConfig(data_port=9000).metrics_port_or_next() == 9001
    assert ExecutorConfig(data_port=0).metrics_port_or_next() == 0


def test_fetched_files_are_in_the_data_folder_unless_shared() -> None:
    """Executors of one host may be given one folder."""
    assert ExecutorConfig(data=Path("/d")).cache_folder() == Path("/d/models")
    config = load_settings(ExecutorConfig, prefix="T_", flags={}, environment={"T_CACHE": "/cache"})
    assert config.cache_folder() == Path("/cache")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"load_parallelism": 0}, "load_parallelism must be positive, got 0"),
        ({"memory_bytes": -1}, "memory_bytes must not be negative, got -1"),
        ({"data_port": 65_535}, "must be at most 65534, since metrics_port is 1 higher, got 65535"),
        ({"data_port": 9000, "metrics_port": 9000}, "data and metrics port must differ, got 9000, 9000"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(values: dict[str, int], reason: str) -> None:
    """Before anything starts."""
    with pytest.raises(ConfigError, match=reason):
        ExecutorConfig(**values)  # type: ignore[arg-type]


def test_memory_is_that_of_the_machine_or_less() -> None:
    """A container may have a smaller part of it."""
    assert memory_bytes() > 1 << 20
